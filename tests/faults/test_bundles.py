"""A bundle shows one moment: all of its result sets equal `find` at the time of each commit.

Whatever happens meanwhile: random writes, transactions, drops, clients that leave, servers that are killed,
an election.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pymongo
import pytest
from pymongo import WriteConcern

from sources.sandbox import Sandbox
from tests.support.bundle_member import BundleMember
from tests.support.processes import ServerProcess
from tests.support.random_writes import Documents, Drops, writing

# One that is matched with every change, one that is found by its equality, a window, a count, and changes.
PARTS: dict[str, dict[str, Any]] = {
    "large": {"mode": "live", "filter": {"n": {"$gte": 2}}},
    "owned": {"mode": "live", "filter": {"by": 1}},
    "first": {"mode": "live", "filter": {}, "sort": {"n": -1, "by": 1, "_id": 1}, "limit": 4},
    "number": {"mode": "count", "filter": {"n": {"$lt": 2}}},
    "changes": {"format": "envelope"},
}
FIND = [
    {"filter": {}} | {name: value for name, value in part.items() if name in ("filter", "sort", "limit")}
    for part in PARTS.values()
]

# Gives up on a lost node in seconds.
IMPATIENT = "&socketTimeoutMS=2500&connectTimeoutMS=1000&heartbeatFrequencyMS=500"

MEMBERS = 3
# Commits that each member compares between two faults.
BETWEEN = 25
# For everything together, on a busy machine. Nothing is measured by it.
PATIENCE_SECONDS = 120


class Truth:
    """Compares members with `find`."""

    def __init__(self, creatures: Any) -> None:
        self.drops = Drops()
        self.compared: dict[BundleMember, int] = {}
        self._creatures = creatures

    async def check(self, member: BundleMember) -> None:
        """Compare everything that a member holds with `find` at its position."""
        found = await asyncio.to_thread(self.drops.find, self._creatures, member.position, FIND)
        if found is None:
            return
        for name, expected in zip(PARTS, found, strict=True):
            self._compare(member, name, expected)
        self.compared[member] = self.compared.get(member, 0) + 1

    def _compare(self, member: BundleMember, name: str, expected: Documents) -> None:
        where = f"{name} at {member.position}"
        if name == "changes":
            assert member.changed == {id: expected.get(id) for id in member.changed}, where
        elif PARTS[name]["mode"] == "count":
            assert member.copies[name].count == len(expected), where
        else:
            assert member.copies[name].held == expected, where
            assert "sort" not in PARTS[name] or list(member.copies[name].held) == list(expected), where

    async def more(self, members: Sequence[BundleMember]) -> None:
        """Wait until each member has been compared some more times."""
        goal = {member: self.compared.get(member, 0) + BETWEEN for member in members}
        while any(self.compared.get(member, 0) < goal[member] for member in members):
            await asyncio.sleep(0.02)


@asynccontextmanager
async def following(members: Sequence[BundleMember]) -> AsyncIterator[None]:
    """Let members follow; fail when one of them does."""
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        tasks = [group.create_task(member.run()) for member in members]
        yield
        for task in tasks:
            task.cancel()


async def disturb(
    mongo: Sandbox, servers: Sequence[ServerProcess], chance: random.Random
) -> AsyncIterator[None]:
    """Kill each server, kill both, and let the primary step down, in a random order; yields between."""
    faults: list[Sequence[ServerProcess]] = [*([server] for server in servers), servers, ()]
    chance.shuffle(faults)
    for killed in faults:
        for server in killed:
            server.kill()
        if len(killed) == 1:
            yield  # one server is left
        for server in killed:
            await asyncio.to_thread(server.start)
        if not killed:
            await asyncio.to_thread(step_down, mongo)
        yield


def step_down(mongo: Sandbox) -> None:
    with mongo.primary().client() as client:
        client.admin.command("replSetStepDown", 1, secondaryCatchUpPeriodSecs=1)
    mongo.primary()


@pytest.mark.mongod
def test_bundle_equals_find_at_one_time_through_kills_and_an_election(start_server):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)

    async def scenario() -> None:
        truth = Truth(creatures)
        ports = [server.port for server in servers]
        members = [BundleMember(ports, PARTS, seed + number, truth.check) for number in range(MEMBERS)]
        with writing(creatures, seed, truth.drops, pause_seconds=0.01, drop_share=0.002):
            async with following(members):
                await truth.more(members)
                async for _ in disturb(mongo, servers, chance):
                    await truth.more(members)
        print(f"{sum(truth.compared.values())} commits compared")
        assert all(member.connects > 3 and member.resumed and member.snapshots for member in members)

    with Sandbox(3) as mongo, pymongo.MongoClient[Any](mongo.uri + IMPATIENT) as client:
        creatures = client.bundles.get_collection("creatures", write_concern=WriteConcern("majority"))
        creatures.insert_one({"_id": 0, "n": 0})
        options = ["--mongo", mongo.uri + IMPATIENT, "--database", "bundles", "--collection", "creatures"]
        # One of them remembers nothing: whoever comes back to it gets snapshots, and changes from the log.
        servers = [start_server(*options), start_server(*options, "--history-max-bytes", "0")]
        asyncio.run(scenario())
