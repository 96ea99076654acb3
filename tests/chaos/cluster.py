"""Three mongods and two servers, each behind a gate, so that every link between them can be hurt."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Self

import psutil
import pymongo
from pymongo.errors import PyMongoError

from sources.sandbox import Node
from tests.chaos import guard
from tests.chaos.links import Network
from tests.support.processes import ServerProcess

NODES = 3
SERVERS = 2
DEADLINE_SECONDS = 120
"""For what has to come, on a machine that is busy."""
ELECTION_SECONDS = 30
STUCK_SECONDS = 40
OPLOG_MB = 24
DISK_MB = 900
"""Of the node whose disk is filled: MongoDB's journal alone takes 300 MB."""
NODE_OPTIONS = ("--oplogSize", str(OPLOG_MB), "--syncdelay", "2")
SERVER_OPTIONS = (
    "--database", "chaos", "--retry-ms", "100", "--heartbeat-seconds", "1", "--drain-seconds", "1",
    "--warm-up-seconds", "5", "--queue-max-bytes", "200000",
)  # fmt: skip
# One forgets soon, so that clients which were away are served from the log.
FORGETFUL = ("--history-max-bytes", "300000", "--history-seconds", "5")


class Member:
    """A mongod, its name, and the port by which the others know it."""

    def __init__(self, name: str, node: Node, gate: int) -> None:
        self.name = name
        self.node = node
        self.gate = gate
        self._asking = self.client(1000)

    def client(self, patience_ms: int = 2000) -> pymongo.MongoClient[Any]:
        """A connection that no fault of a link reaches."""
        return pymongo.MongoClient(
            "127.0.0.1", self.node.port, directConnection=True, serverSelectionTimeoutMS=patience_ms,
            socketTimeoutMS=patience_ms, heartbeatFrequencyMS=500,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Its own view of the set; empty if it does not answer."""
        with contextlib.suppress(PyMongoError):
            return dict(self._asking.admin.command("replSetGetStatus"))
        return {}

    def close(self) -> None:
        self._asking.close()
        self.node.stop(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        if self.node.pid is not None:
            os.kill(self.node.pid, number)

    @property
    def has_ended(self) -> bool:
        """True if it has ended by itself."""
        return self.node.pid is None or psutil.Process(self.node.pid).status() == psutil.STATUS_ZOMBIE


class Instance:
    """A server that somebody starts again whenever it has ended, as systemd does."""

    def __init__(self, name: str, uri: str, options: tuple[str, ...]) -> None:
        self.name = name
        self.process = ServerProcess("--mongo", uri, *SERVER_OPTIONS, *options, port=free_port())
        self.starts = 0

    def start(self) -> None:
        until = time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                self.starts += 1
                self.process.start()
                return
            except AssertionError:
                # MongoDB cannot be reached just now: the server says so, and ends.
                self.process.kill()
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        self.process.kill()

    def stop(self) -> None:
        """SIGTERM; it has to end by itself."""
        code = self.process.stop(seconds=30)
        assert code == 0, f"{self.name} ended with {code}"

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    @contextlib.contextmanager
    def few_files(self) -> Any:
        """Until the end of the block, it can open hardly another file."""
        process = psutil.Process(self.pid)
        before = process.rlimit(psutil.RLIMIT_NOFILE)
        process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds() + 1, before[1]))
        try:
            yield
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.rlimit(psutil.RLIMIT_NOFILE, before)


class Cluster:
    """All of them, in a folder that is removed at the end. The last node's disk is small if that is asked."""

    def __init__(self, folder: Path, *, small_disk: bool = False) -> None:
        self.folder = folder
        self._small_disk = small_disk
        self.members: list[Member] = []
        self.instances: list[Instance] = []
        self.network = Network(self._processes)
        self.gates: list[int] = []
        """The ports of the servers' gates."""
        self.restarted = 0
        """The number of nodes that were stuck after a fault, and started again."""
        self.disk: Path | None = None
        """The folder of the last node, if that is a small disk of its own."""

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for instance in self.instances:
            instance.kill()
        for member in self.members:
            member.close()
        await self.network.close()
        if self.disk is not None:
            subprocess.run(["umount", self.disk], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def uri(self) -> str:
        hosts = ",".join(f"127.0.0.1:{member.gate}" for member in self.members)
        return f"mongodb://{hosts}/?replicaSet=sandbox"

    def names(self) -> list[str]:
        return [member.name for member in self.members]

    def _processes(self) -> dict[str, int]:
        nodes = {each.name: each.node.pid for each in self.members if each.node.pid is not None}
        return nodes | {each.name: each.pid for each in self.instances if each.process.process is not None}

    async def _start(self) -> None:
        for number in range(NODES):
            folder = self.folder / f"node{number}"
            folder.mkdir(parents=True)
            if self._small_disk and number == NODES - 1:
                self._mount(folder)
            node = Node(folder, NODE_OPTIONS)
            node.port = free_port()
            gate = await self.network.gate(f"node{number}", node.port)
            self.members.append(Member(f"node{number}", node, gate.port))
            node.start()
        await asyncio.gather(*(asyncio.to_thread(member.node.wait) for member in self.members))
        await asyncio.to_thread(self._initiate)
        await self.healthy()
        for number in range(SERVERS):
            options = ("--config", str(guard.write(self.folder)), *(FORGETFUL if number == 0 else ()))
            instance = Instance(f"server{number}", self.uri, options)
            self.instances.append(instance)
            await asyncio.to_thread(instance.start)
            self.gates.append((await self.network.gate(instance.name, instance.process.port)).port)

    def _mount(self, folder: Path) -> None:
        """Give a node a small disk, where that is allowed."""
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
        if os.geteuid() == 0 and shutil.which("mount"):
            done = subprocess.run(command, check=False, capture_output=True)
            self.disk = folder if done.returncode == 0 else None

    def _initiate(self) -> None:
        members = [{"_id": n, "host": f"127.0.0.1:{each.gate}"} for n, each in enumerate(self.members)]
        timing = {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 300, "catchUpTimeoutMillis": 2000}
        with self.members[0].client(30_000) as client:
            client.admin.command(
                "replSetInitiate", {"_id": "sandbox", "members": members, "settings": timing}
            )
        with pymongo.MongoClient[Any](self.uri, serverSelectionTimeoutMS=30_000) as client:
            client.admin.command("appendOplogNote", 1, data={}, writeConcern={"w": "majority"})

    def _restart_stuck(self) -> None:
        """Restart the nodes that neither end nor follow, as an operator would."""
        primary = self.primary()
        if primary is None:
            return
        times = {each["name"]: each["optimeDate"] for each in primary.state().get("members", [])}
        for member in self.members:
            own = times.get(f"127.0.0.1:{member.gate}")
            behind = own is None or (max(times.values()) - own).total_seconds() > 2
            if member is not primary and (behind or member.has_ended):
                member.node.stop(signal.SIGKILL)
                member.node.start()
                member.node.wait()
                self.restarted += 1

    def primary(self) -> Member | None:
        """The node that all believe to be the primary; of two, the one of the later term."""
        found = [
            (state["term"], member)
            for member in self.members
            if (state := member.state()) and state["myState"] == 1
        ]
        return max(found, key=lambda each: each[0])[1] if found else None

    async def another_primary(self, old: Member) -> bool:
        """Wait until another node is the primary, for as long as an election may take."""
        until = time.monotonic() + ELECTION_SECONDS
        while await asyncio.to_thread(self.primary) in (None, old):
            if time.monotonic() > until:
                return False
            await asyncio.sleep(0.1)
        return True

    async def healthy(self) -> Member:
        """Wait until all nodes follow one primary, and none is behind; the primary."""
        until = time.monotonic() + DEADLINE_SECONDS
        restart_at = time.monotonic() + STUCK_SECONDS
        while time.monotonic() < until:
            states = await asyncio.to_thread(lambda: [member.state() for member in self.members])
            if time.monotonic() > restart_at:
                restart_at = until
                await asyncio.to_thread(self._restart_stuck)
            if all(states) and all(map(_is_well, states)):
                roles = [state["myState"] for state in states]
                if sorted(roles) == [1, 2, 2]:
                    return self.members[roles.index(1)]
            await asyncio.sleep(0.1)
        raise AssertionError(f"the replica set does not become healthy: {[_summary(s) for s in states]}")


def free_port() -> int:
    """A port that no outgoing connection is given while its owner is away."""
    while True:
        port = random.randrange(21_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _is_well(state: dict[str, Any]) -> bool:
    members = state["members"]
    if sorted(member["state"] for member in members) != [1, 2, 2]:
        return False
    times = [member["optimeDate"].timestamp() for member in members]
    return max(times) - min(times) <= 2


def _summary(state: dict[str, Any]) -> Any:
    return [(member["stateStr"], member.get("optimeDate")) for member in state.get("members", [])]
