"""Links between any two parties, which a test can cut, swallow, slow and make lossy.

Each mongod and each server has a gate, a TCP proxy under whose port all others know it. A gate finds the
party at the other end by the process that holds the connection, so each pair has a link of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Callable, Iterable

TRIES = 5
LOSS_SECONDS = (0.2, 0.8)
"""A lost packet holds up the bytes behind it until it is sent again: 0.2 s is Linux's shortest wait."""
OTHERS = "clients"
"""The name of this process, and of everybody else."""


class Link:
    """The connections from one party to another, in both directions."""

    def __init__(self, source: str, target: str) -> None:
        self.source = source
        self.target = target
        self.delay_seconds = 0.0
        self.loss = 0.0
        """The share of reads that are held up."""
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._is_cut = False
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Reset what is open, and whatever comes."""
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def swallow(self) -> None:
        """Deliver nothing, and close nothing."""
        self._flowing.clear()

    def heal(self) -> None:
        self._is_cut = False
        self.delay_seconds = self.loss = 0.0
        self._flowing.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        if self._is_cut:
            return
        self._writers.add(writer)
        try:
            await self._flowing.wait()
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
            self._writers.add(up_writer)
            try:
                await asyncio.gather(self._pump(reader, up_writer), self._pump(up_reader, writer))
            finally:
                self._writers.discard(up_writer)
                up_writer.transport.abort()
        finally:
            self._writers.discard(writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            if self.loss and random.random() < self.loss:
                await asyncio.sleep(random.uniform(*LOSS_SECONDS))
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError  # ends the other direction, too


class Gate:
    """The door of one party: whoever wants it connects here."""

    def __init__(self, network: Network, target: str, upstream: int) -> None:
        self._network = network
        self._target = target
        self._upstream = upstream
        self.port = 0
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            try:
                peer = writer.get_extra_info("peername")[1]
                source = await asyncio.to_thread(self._network.party, peer, self.port)
                # A member of a replica set connects to itself, to find itself in the configuration.
                await self._network.link(source, self._target).carry(reader, writer, self._upstream)
            finally:
                writer.transport.abort()


class Network:
    """All links. `processes` says which process each party is, at this moment."""

    def __init__(self, processes: Callable[[], dict[str, int]]) -> None:
        self._processes = processes
        self._links: dict[tuple[str, str], Link] = {}
        self._gates: list[Gate] = []

    async def gate(self, target: str, upstream: int) -> Gate:
        gate = Gate(self, target, upstream)
        await gate.open()
        self._gates.append(gate)
        return gate

    def link(self, source: str, target: str) -> Link:
        if (source, target) not in self._links:
            self._links[source, target] = Link(source, target)
        return self._links[source, target]

    def between(self, one: str, others: Iterable[str]) -> list[Link]:
        """The links of a party with others, whoever has connected."""
        return [link for other in others for link in (self.link(one, other), self.link(other, one))]

    def heal(self) -> None:
        for link in self._links.values():
            link.heal()

    async def close(self) -> None:
        for gate in self._gates:
            gate.close()
        for link in self._links.values():
            link.heal()
            link.cut()
        # An aborted transport is closed in one of the loop's next turns.
        for _ in range(10):
            await asyncio.sleep(0)

    def party(self, port: int, gate: int) -> str:
        """The party whose socket leads from a port to a gate."""
        # The kernel's table may skip a line while it changes.
        for _ in range(TRIES):
            inode = _inode(port, gate)
            for name, pid in ({OTHERS: os.getpid()} | self._processes()).items():
                if inode and _holds(pid, inode):
                    return name
            time.sleep(0.01)
        # Closed meanwhile, or not to be found: an unknown one must not pass through a link that is cut.
        raise ConnectionResetError


def _holds(pid: int, inode: str) -> bool:
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(folder):
            with contextlib.suppress(OSError):
                if os.readlink(f"{folder}/{descriptor}") == inode:
                    return True
    return False


def _inode(port: int, gate: int) -> str:
    """The socket from a port to a gate, as /proc names it; empty if there is none."""
    # The port alone is not enough: it may be in use towards another gate, too.
    address, remote = f"0100007F:{port:04X}", f"0100007F:{gate:04X}"
    with open("/proc/net/tcp") as lines:
        for line in lines:
            if address in line:
                fields = line.split()
                if fields[1:3] == [address, remote] and fields[9] != "0":
                    return f"socket:[{fields[9]}]"
    return ""
