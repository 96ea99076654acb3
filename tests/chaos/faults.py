"""Each kind of fault: how it is done, and how it is healed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from pymongo import WriteConcern
from pymongo.errors import PyMongoError

from tests.chaos import keys
from tests.chaos.clients import Client
from tests.chaos.cluster import Cluster, Instance, Member
from tests.chaos.links import OTHERS, Link
from tests.chaos.schedule import Fault
from tests.chaos.truth import LostLog
from tests.chaos.witness import CODEC, Witness, forget_everything
from tests.chaos.writers import SPAN, stamped

DOOMED = 900
"""The number of the writer whose documents are rolled back."""
SLOW_SECONDS = 0.15
LOSS = 0.1


class Faults:
    """Does faults to a cluster and its clients, and keeps count."""

    def __init__(self, cluster: Cluster, clients: Sequence[Client], witness: Witness) -> None:
        self._cluster = cluster
        self._clients = clients
        self._witness = witness
        self._servers = asyncio.Lock()
        """Held while a server is hurt."""
        self.done: Counter[str] = Counter()
        self.effects: Counter[str] = Counter()
        """Events that some of the faults had as a consequence."""
        self.left_out: Counter[str] = Counter()
        self.lost_logs: list[LostLog] = []
        self.doomed: list[int] = []
        """Stamps of writes that no majority had when they were acknowledged by one node."""

    async def do(self, fault: Fault) -> None:
        """Do one fault, heal it, and wait until what it hurt is well."""
        if await self.actions()[fault.kind](fault) is False:
            self.left_out[fault.kind] += 1
        else:
            self.done[fault.kind] += 1

    def actions(self) -> dict[str, Callable[[Fault], Awaitable[bool | None]]]:
        return {
            "kill the primary": lambda fault: self._kill_node(fault, True),
            "kill a secondary": lambda fault: self._kill_node(fault, False),
            "freeze the primary": lambda fault: self._freeze_node(fault, True),
            "freeze a secondary": lambda fault: self._freeze_node(fault, False),
            "step down": self._step_down,
            "roll back the primary": self._roll_back,
            "cut two nodes apart": lambda fault: self._hurt_nodes(fault, Link.cut),
            "swallow between two nodes": lambda fault: self._hurt_nodes(fault, Link.swallow),
            "slow two nodes": lambda fault: self._hurt_nodes(fault, _slow),
            "lose between two nodes": lambda fault: self._hurt_nodes(fault, _lose),
            "kill the majority": self._kill_majority,
            "fill a node's disk": self._fill_disk,
            "roll the log over": self._roll_over,
            "kill a server": self._kill_server,
            "stop a server": self._stop_server,
            "freeze a server": self._freeze_server,
            "cut a server off a node": lambda fault: self._hurt_server(fault, Link.cut, 1),
            "cut a server off MongoDB": lambda fault: self._hurt_server(fault, Link.cut, 3),
            "cut a server off for long": lambda fault: self._hurt_server(fault, Link.cut, 3),
            "swallow between server and node": lambda fault: self._hurt_server(fault, Link.swallow, 1),
            "swallow for long": lambda fault: self._hurt_server(fault, Link.swallow, 3),
            "slow a server's MongoDB": lambda fault: self._hurt_server(fault, _slow, 3),
            "lose between server and MongoDB": lambda fault: self._hurt_server(fault, _lose, 3),
            "use up a server's files": self._use_up_files,
            "cut clients": self._cut_clients,
            "keep clients away": self._keep_away,
            "stop clients from reading": self._stop_reading,
            "cut clients off a server": lambda fault: self._hurt_door(fault, Link.cut),
            "swallow before a server": lambda fault: self._hurt_door(fault, Link.swallow),
            "slow a server's clients": lambda fault: self._hurt_door(fault, _slow),
            "lose before a server": lambda fault: self._hurt_door(fault, _lose),
        }

    # -- MongoDB -----------------------------------------------------------------------------------

    async def _role(self, fault: Fault, is_primary: bool) -> Member:
        primary = await self._cluster.healthy()
        others = [member for member in self._cluster.members if member is not primary]
        return primary if is_primary else others[int(fault.which * len(others))]

    async def _kill_node(self, fault: Fault, is_primary: bool) -> None:
        member = await self._role(fault, is_primary)
        await asyncio.to_thread(member.node.stop, signal.SIGKILL)
        await asyncio.sleep(fault.seconds)
        await self._start(member)

    async def _start(self, *members: Member) -> None:
        for member in members:
            await asyncio.to_thread(member.node.start)
        for member in members:
            await asyncio.to_thread(member.node.wait)
        await self._cluster.healthy()

    async def _freeze_node(self, fault: Fault, is_primary: bool) -> None:
        member = await self._role(fault, is_primary)
        member.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            member.signal(signal.SIGCONT)
        await self._cluster.healthy()

    async def _step_down(self, fault: Fault) -> None:
        member = await self._role(fault, True)
        await asyncio.to_thread(_tell_to_step_down, member)
        await asyncio.sleep(fault.seconds)
        await self._cluster.healthy()

    async def _hurt_nodes(self, fault: Fault, hurt: Callable[[Link], None]) -> None:
        pairs = [(0, 1), (0, 2), (1, 2)]
        one, other = (self._cluster.names()[n] for n in pairs[int(fault.which * len(pairs))])
        await self._hurt(fault, self._cluster.network.between(one, [other]), hurt)
        await self._cluster.healthy()

    async def _hurt(self, fault: Fault, links: list[Link], hurt: Callable[[Link], None]) -> None:
        for link in links:
            hurt(link)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            for link in links:
                link.heal()

    async def _roll_back(self, fault: Fault) -> bool:
        """Cut the primary off the other nodes while somebody still writes to it."""
        old = await self._role(fault, True)
        others = [name for name in self._cluster.names() if name != old.name]
        links = self._cluster.network.between(old.name, others)
        for link in links:
            link.cut()
        try:
            await asyncio.to_thread(self._write_in_vain, old)
            isolated = await self._cluster.another_primary(old)
            await asyncio.sleep(fault.seconds / 4)
        finally:
            for link in links:
                link.heal()
        await self._cluster.healthy()
        return isolated

    def _write_in_vain(self, member: Member) -> None:
        """Until the node learns that it is no longer the primary."""
        with suppress(PyMongoError), member.client() as client:
            creatures: Any = client.chaos.get_collection("creatures", CODEC, write_concern=WriteConcern(1))
            for _ in range(100):
                number = len(self.doomed)
                stamp = DOOMED * SPAN + number + 1
                self.doomed.append(stamp)
                creatures.insert_one({"_id": keys.make(DOOMED, number), "w": DOOMED, **stamped(stamp)})

    async def _kill_majority(self, fault: Fault) -> None:
        primary = await self._role(fault, True)
        killed = [primary, await self._role(fault, False)]
        for member in killed:
            await asyncio.to_thread(member.node.stop, signal.SIGKILL)
        await asyncio.sleep(fault.seconds)
        await self._start(*killed)

    async def _fill_disk(self, fault: Fault) -> bool | None:
        """The last node's disk has no room until it ends, or the time is over."""
        disk = self._cluster.disk
        if disk is None:
            return False
        await self._cluster.healthy()
        member = self._cluster.members[-1]
        ballast = disk / "ballast"
        await asyncio.to_thread(_fill, ballast)
        ended = False
        before = self._cluster.restarted
        with suppress(TimeoutError):
            async with asyncio.timeout(fault.seconds):
                while not (ended := member.has_ended):
                    await asyncio.sleep(0.05)
        ballast.unlink()
        if ended or member.has_ended:
            self.effects["a node ended for a full disk"] += 1
            await asyncio.to_thread(member.node.stop, signal.SIGKILL)
            await self._start(member)
        else:
            await self._cluster.healthy()
        self.effects["a node that a full disk had stopped was restarted"] += self._cluster.restarted - before
        return None

    async def _roll_over(self, fault: Fault) -> None:
        """Both servers are away until MongoDB's log has forgotten every position of every client."""
        async with self._servers:
            primary = await self._role(fault, True)
            for instance in self._cluster.instances:
                instance.kill()
            known = self._witness
            lost = await asyncio.to_thread(_roll_over, primary, lambda time: known.position > time)
            self.lost_logs.append(lost)
            for instance in self._cluster.instances:
                await asyncio.to_thread(instance.start)
        await self._cluster.healthy()

    # -- the servers -------------------------------------------------------------------------------

    def _instance(self, fault: Fault) -> Instance:
        return self._cluster.instances[int(fault.which * len(self._cluster.instances))]

    async def _kill_server(self, fault: Fault) -> None:
        async with self._servers:
            instance = self._instance(fault)
            instance.kill()
            await asyncio.sleep(fault.seconds)
            await asyncio.to_thread(instance.start)

    async def _stop_server(self, fault: Fault) -> None:
        async with self._servers:
            instance = self._instance(fault)
            await asyncio.to_thread(instance.stop)
            await asyncio.sleep(fault.seconds)
            await asyncio.to_thread(instance.start)

    async def _freeze_server(self, fault: Fault) -> None:
        async with self._servers:
            instance = self._instance(fault)
            instance.signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(fault.seconds)
            finally:
                instance.signal(signal.SIGCONT)

    async def _hurt_server(self, fault: Fault, hurt: Callable[[Link], None], nodes: int) -> None:
        async with self._servers:
            instance = self._instance(fault)
            names = self._cluster.names()
            first = int(fault.which * 997) % len(names)
            targets = [names[(first + n) % len(names)] for n in range(nodes)]
            links = [self._cluster.network.link(instance.name, target) for target in targets]
            await self._hurt(fault, links, hurt)

    async def _use_up_files(self, fault: Fault) -> None:
        async with self._servers:
            instance = self._instance(fault)
            with instance.few_files():
                for client in self._some(fault, 0.3):
                    client.cut()
                await asyncio.sleep(fault.seconds)

    # -- the clients -------------------------------------------------------------------------------

    def _some(self, fault: Fault, share: float) -> list[Client]:
        """A share of the clients, from a place that the fault says."""
        count = max(1, int(share * len(self._clients)))
        first = int(fault.which * len(self._clients))
        return [self._clients[(first + n) % len(self._clients)] for n in range(count)]

    async def _cut_clients(self, fault: Fault) -> None:
        for client in self._some(fault, 0.3):
            client.cut()

    async def _keep_away(self, fault: Fault) -> None:
        clients = self._some(fault, 0.2)
        for client in clients:
            client.leave()
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            for client in clients:
                client.come()

    async def _stop_reading(self, fault: Fault) -> None:
        clients = self._some(fault, 0.2)
        for client in clients:
            client.rest()
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            for client in clients:
                client.go_on()

    async def _hurt_door(self, fault: Fault, hurt: Callable[[Link], None]) -> None:
        link = self._cluster.network.link(OTHERS, self._instance(fault).name)
        await self._hurt(fault, [link], hurt)


def _slow(link: Link) -> None:
    link.delay_seconds = SLOW_SECONDS


def _lose(link: Link) -> None:
    link.loss = LOSS


def _tell_to_step_down(member: Member) -> None:
    # The others may be behind just now: it then refuses, and stays.
    with suppress(PyMongoError), member.client(10_000) as client:
        client.admin.command("replSetStepDown", 1, secondaryCatchUpPeriodSecs=1)


def _fill(ballast: Any) -> None:
    """Take all room that a disk has left."""
    state = os.statvfs(ballast.parent)
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        for _ in range(state.f_bavail * state.f_frsize // 2**20 + 2):
            file.write(bytes(2**20))
    with ballast.open("ab", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def _roll_over(primary: Member, is_known: Callable[[int], bool]) -> LostLog:
    with primary.client(30_000) as client:
        return forget_everything(client, is_known, copies=3)
