"""One run: a cluster, clients, writers, faults for a while; then everything is healed, and checked."""

from __future__ import annotations

import asyncio
import resource
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymongo

from tests.chaos import keys
from tests.chaos.checker import ChangesChecker, States, Verdict, check_live
from tests.chaos.clients import KINDS, ChangesClient, Client, LiveClient
from tests.chaos.cluster import Cluster
from tests.chaos.faults import Faults
from tests.chaos.queries import CHANGES, GROUPS, LIVE, WINDOW
from tests.chaos.schedule import CLIENTS, MONGO, SERVERS, Fault, schedule
from tests.chaos.truth import Truth, cluster_time
from tests.chaos.witness import CODEC, Witness
from tests.chaos.writers import SPAN, Writer, stamped

NAMESPACE = "chaos.creatures"
LAST = 990 * SPAN + 1 - 990 * SPAN % GROUPS
"""The first of the last stamps: of the group that a query asks for."""
SETTLE_SECONDS = 180
"""For everything to arrive, once all is healed."""
THROUGH_GATE = 4
"""Every fourth client goes through the gates. The others save the proxy's work, and are cut all the same."""


@dataclass
class Plan:
    """The size of a run. `faults` are fixed ones, for each lane; else the seed deals them."""

    seed: int
    seconds: float
    clients: int = 100
    writers: int = 4
    pause_seconds: float = 0.1
    faults: dict[str, list[Fault]] = field(default_factory=dict)

    def lane(self, name: str) -> Iterator[Fault]:
        return iter(self.faults[name]) if self.faults else schedule(self.seed, name)


@dataclass
class Outcome:
    """The result of a run."""

    plan: Plan
    seconds: float = 0
    faults: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    effects: Counter[str] = field(default_factory=Counter)
    operations: int = 0
    acknowledged: int = 0
    rolled_back: int = 0
    connects: int = 0
    changes: Verdict = field(default_factory=Verdict)
    live: Verdict = field(default_factory=Verdict)
    clients: Counter[str] = field(default_factory=Counter)
    """By the name of the query."""
    complaints: list[str] = field(default_factory=list)

    @property
    def passes(self) -> bool:
        return not self.complaints and self.changes.passes and self.live.passes

    @property
    def deliveries(self) -> int:
        return self.changes.deliveries + self.live.deliveries


class Run:
    """The parts of one run, and its order."""

    def __init__(self, plan: Plan, cluster: Cluster) -> None:
        self._plan = plan
        self._cluster = cluster
        numbers = keys.Keys()
        self.witness = Witness([each.node.port for each in cluster.members], NAMESPACE, numbers)
        self.clients: list[Client] = [self._client(number, numbers) for number in range(plan.clients)]
        self.writers = [
            Writer(number, plan.seed, cluster.uri, plan.pause_seconds)
            for number in range(1, plan.writers + 1)
        ]
        self.faults = Faults(cluster, self.clients, self.witness)
        self._say = print if plan.seconds > 60 else _say_nothing

    def _client(self, number: int, numbers: keys.Keys) -> Client:
        direct = [each.process.port for each in self._cluster.instances]
        ports = self._cluster.gates if number % THROUGH_GATE == 0 else direct
        queries = (*CHANGES, *CHANGES, *LIVE)
        query = queries[number % len(queries)]
        kind = KINDS[number // len(queries) % len(KINDS)]
        if query in CHANGES:
            return ChangesClient(query, ports, kind, number, numbers)
        return LiveClient(query, ports, kind, number, numbers)

    async def go(self) -> Outcome:
        began = time.monotonic()
        self.witness.start()
        for client in self.clients:
            client.start()
        await self._until(lambda: [c for c in self.clients if not c.position], "are not let in")
        for writer in self.writers:
            writer.start()
        await self._disturb(began)
        end = await self._settle()
        outcome = Outcome(self._plan, time.monotonic() - began, self.faults.done, self.faults.left_out)
        outcome.effects = self.faults.effects
        outcome.complaints += await self._compare_with_find()
        self.witness.stop()
        self._check(outcome, end)
        return outcome

    async def _disturb(self, began: float) -> None:
        lanes = [self._lane(name, began + self._plan.seconds) for name in (MONGO, SERVERS, CLIENTS)]
        async with asyncio.TaskGroup() as group:
            for lane in lanes:
                group.create_task(lane)

    async def _lane(self, name: str, until: float) -> None:
        for fault in self._plan.lane(name):
            await asyncio.sleep(fault.pause)
            if time.monotonic() >= until:
                return
            if self.witness.failure:
                raise AssertionError(self.witness.failure)
            self._say(f"{self.faults.done.total():4} {name:8} {fault}", flush=True)
            try:
                await self.faults.do(fault)
            except Exception as error:
                raise AssertionError(f"{fault} in seed {self._plan.seed}: {error!r}") from error

    async def _settle(self) -> int:
        """Heal everything, stop the writers, and wait until all clients know of it; the last time."""
        self._cluster.network.heal()
        await self._cluster.healthy()
        for writer in self.writers:
            writer.stop()
        for writer in self.writers:
            await asyncio.to_thread(writer.join)
        end = await asyncio.to_thread(self._write_last)
        await self._until(lambda: [] if self.witness.position >= end else [self.witness], "has read all")
        await self._until(lambda: [c for c in self.clients if c.position < end], "are not up to date")
        return end

    def _write_last(self) -> int:
        """Write what every query shows, all at one time, after everything else; the time."""
        with pymongo.MongoClient[Any](self._cluster.uri) as client, client.start_session() as session:
            last = [{"_id": f"last {writer}", "w": writer, **stamped(LAST + 3 * writer)} for writer in (1, 2)]
            session.with_transaction(
                lambda session: client.chaos.creatures.insert_many(last, session=session),
                write_concern=pymongo.WriteConcern("majority"),
            )
            assert session.operation_time is not None
            return cluster_time(session.operation_time.time, session.operation_time.inc)

    async def _until(self, missing: Any, what: str) -> None:
        deadline = time.monotonic() + SETTLE_SECONDS
        while left := missing():
            if time.monotonic() > deadline:
                first = vars(left[0])
                raise AssertionError(f"seed {self._plan.seed}: {len(left)} {what}; the first: {first}")
            await asyncio.sleep(0.1)

    def _found(self) -> dict[str, list[tuple[int, int]]]:
        """The key and stamp of each document that `find` shows, by the name of the query."""
        number = self.clients[0].keys.number
        with pymongo.MongoClient[Any](self._cluster.uri) as mongo:
            creatures = mongo.chaos.get_collection("creatures", CODEC)
            found = {query.name: list(creatures.find(query.find).sort("n", -1)) for query in LIVE}
        return {
            name: [(number(keys.text(each["_id"])), each["n"]) for each in documents]
            for name, documents in found.items()
        }

    async def _compare_with_find(self) -> list[str]:
        """Each live client holds the documents that MongoDB has."""
        complaints = []
        found = await asyncio.to_thread(self._found)
        for number, client in enumerate(self.clients):
            if isinstance(client, LiveClient):
                expected = found[client.query.name][: WINDOW if client.query.window else None]
                if not client.holds(expected):
                    complaints.append(f"client {number} ({client.query.name}) does not hold what find shows")
        return complaints

    def _check(self, outcome: Outcome, end: int) -> None:
        truth = Truth(each for each in self.witness.operations if each.time <= end)
        outcome.operations = len(truth.operations)
        outcome.complaints += self._unkept(truth)
        outcome.acknowledged = sum(len(each.acknowledged) + len(each.deleted) for each in self.writers)
        outcome.rolled_back = sum(stamp not in truth.owner for stamp in self.faults.doomed)
        lost = self.faults.lost_logs
        parts = {query.name: truth.only(query.accepts) for query in CHANGES}
        states = {query.name: States(query, truth) for query in LIVE}
        for number, client in enumerate(self.clients):
            outcome.connects += client.connects
            if isinstance(client, ChangesClient):
                query, total = client.query, outcome.changes
                verdict = ChangesChecker(query, parts[query.name], client.record, lost).verdict()
            else:
                assert isinstance(client, LiveClient)
                query, total = client.query, outcome.live
                verdict = check_live(states[query.name], client.record, lost)
            outcome.clients[query.name] += 1
            told = [*client.failures, *verdict.told]
            outcome.complaints += [f"client {number} ({query.name}): {text}" for text in client.failures]
            if told and not verdict.passes:
                outcome.complaints += [f"client {number} ({query.name}): {text}" for text in verdict.told]
            verdict.told = []
            total += verdict

    def _unkept(self, truth: Truth) -> Iterable[str]:
        """Writes that MongoDB itself has lost: the run then proves nothing."""
        for writer in self.writers:
            missing = [stamp for stamp in writer.acknowledged if stamp not in truth.owner]
            if missing:
                yield f"MongoDB has lost what it acknowledged: {missing[:3]}"
            alive = [id for id in writer.deleted if self._number(id) not in truth.deleted]
            if alive:
                yield f"MongoDB has not deleted what it acknowledged: {alive[:3]}"

    def _number(self, id: Any) -> int:
        return self.clients[0].keys.number(keys.text(id))


def _say_nothing(*_: object, **__: object) -> None:
    pass


@asynccontextmanager
async def started(plan: Plan) -> AsyncIterator[Run]:
    """Everything that a run needs; gone at the end."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    async with AsyncExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="brook-chaos-"))
        cluster = await stack.enter_async_context(Cluster(folder, small_disk=not plan.faults))
        run = Run(plan, cluster)
        stack.push_async_callback(_end, run)
        yield run


async def _end(run: Run) -> None:
    for client in run.clients:
        client.close()
    for writer in run.writers:
        writer.stop()
    with suppress(RuntimeError):
        await asyncio.to_thread(run.witness.stop)


async def run(plan: Plan) -> Outcome:
    async with started(plan) as parts:
        return await parts.go()
