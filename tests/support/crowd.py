"""A crowd of clients in one process, and the writers whose documents they must all get.

The clients come back by the rules of EventSource: they keep the last id, wait for as long as `retry`
said, and never give up but for an answer that is no event stream. Each records every numbered
document. Made for thousands of them: runs of plain frames are read at once, everything else block by
block.
"""

from __future__ import annotations

import asyncio
import random
import re
import resource
import socket
import threading
import time
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Self

import pymongo
from pymongo import WriteConcern
from pymongo.errors import PyMongoError

# A document is {"_id": number, ...}: the writer's number times SPAN, and a count from 0.
SPAN = 1_000_000
LAST = 999 * SPAN
"""The number of the document after which no more will come."""

KINDS = (("1.1", "identity"), ("1.0", "identity"), ("1.1", "gzip"))
"""The HTTP version and the coding that a client asks for."""

_NUMBERED = re.compile(rb'\ndata: \{"_id":(\d+)')


class Member(asyncio.Protocol):
    """One client: what it has had so far, over all of its connections."""

    def __init__(self, crowd: Crowd, http: str, coding: str, last_id: str = "") -> None:
        self.crowd = crowd
        self.http = http
        self.coding = coding
        self.last_id = last_id
        self.retry_ms = 3000
        self.numbers = array("q")
        """The documents, in the order in which they came."""
        self.others: list[tuple[str, str]] = []
        """Every event with a name: the name, and the data."""
        self.connects = 0
        self.longest_silence = 0.0
        self._heard_at = time.monotonic()
        self.opened = False
        """Whether the present connection's opening has come."""
        self.dead = ""
        """Why it gave up, if it did."""
        self.waits_to_start = False
        self._transport: asyncio.Transport | None = None
        self._start_anew()

    def _note_the_time(self) -> None:
        now = time.monotonic()
        self.longest_silence = max(self.longest_silence, now - self._heard_at)
        self._heard_at = now

    def _start_anew(self) -> None:
        self.opened = False
        self._in_head = True
        self._chunked = False
        self._inflate: Any = None
        self._raw = b""
        self._left = 0
        self._read_bytes = 0
        # Every block is kept with the line end before it, so that "\nid" finds a field.
        self._text = b"\n"

    # -- the connection ----------------------------------------------------------------------------

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        connection = socket.socket()
        connection.setblocking(False)
        if self.crowd.receive_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.crowd.receive_bytes)
        try:
            await loop.sock_connect(connection, ("127.0.0.1", self.crowd.port))
        except OSError:
            connection.close()
            self._come_back()
        else:
            await loop.create_connection(lambda: self, sock=connection)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._start_anew()
        self._transport = transport
        self.connects += 1
        last = f"Last-Event-ID: {self.last_id}\r\n" if self.last_id else ""
        transport.write(
            f"GET {self.crowd.path} HTTP/{self.http}\r\nHost: localhost\r\n"
            f"Accept-Encoding: {self.coding}\r\n{last}\r\n".encode()
        )
        if self.crowd.closed:
            transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        self.opened = False
        if not self.dead:
            self._come_back()

    def _come_back(self) -> None:
        if self.crowd.held:
            self.waits_to_start = True
        elif not self.crowd.closed:
            asyncio.get_running_loop().call_later(self.retry_ms / 1000, self._start)

    def _start(self) -> None:
        if self.crowd.held:
            self.waits_to_start = True
        elif not self.crowd.closed:
            self.waits_to_start = False
            self.crowd.spawn(self.connect())

    def cut(self) -> None:
        """Lose the connection, as if the network had."""
        if self._transport is not None:
            self._transport.abort()

    def _rest(self, seconds: float) -> None:
        """Read no more for a while."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.pause_reading()
            asyncio.get_running_loop().call_later(seconds, _go_on, transport)

    # -- the bytes ---------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self.crowd.cut_chance and random.random() < self.crowd.cut_chance:
            # Whatever the rest of it was, a frame or half of one, it never arrives.
            self._received(data[: random.randrange(len(data))])
            self.cut()
        else:
            self._received(data)
            self._read_bytes += len(data)
            if self.crowd.rest_seconds and self._read_bytes >= self.crowd.rest_bytes:
                self._read_bytes = 0
                self._rest(self.crowd.rest_seconds)

    def _received(self, data: bytes) -> None:
        try:
            if self._in_head:
                head, found, data = (self._raw + data).partition(b"\r\n\r\n")
                self._raw = b"" if found else head
                if not found:
                    return
                self._read_head(head.decode())
            if data:
                body = self._unchunked(data) if self._chunked else data
                self._read_text(self._inflate.decompress(body) if self._inflate else body)
        except Exception as error:
            self.dead = repr(error)
            self.cut()
            raise

    def _read_head(self, head: str) -> None:
        status, *fields = head.lower().split("\r\n")
        # "If aborted, or the status is not 200, or the content type is not text/event-stream: fail the
        # connection", and a client whose connection has failed never comes back.
        assert status.split()[1] == "200", head
        assert "content-type: text/event-stream; charset=utf-8" in fields
        self._in_head = False
        self._chunked = "transfer-encoding: chunked" in fields
        self._inflate = zlib.decompressobj(31) if "content-encoding: gzip" in fields else None

    def _unchunked(self, data: bytes) -> bytes:
        raw = self._raw + data
        at = 0
        pieces = []
        while at < len(raw):
            if self._left > 2:
                piece = raw[at : at + self._left - 2]
                pieces.append(piece)
                self._left -= len(piece)
                at += len(piece)
            elif self._left:
                assert raw[at] == b"\r\n"[2 - self._left], raw[at : at + 20]
                self._left -= 1
                at += 1
            else:
                end = raw.find(b"\r\n", at)
                if end < 0:
                    break
                size = int(raw[at:end], 16)
                self._left = size + 2
                at = end + 2
                if size == 0 and self._transport is not None:
                    # The end of the body, whether or not the connection lives on.
                    self._transport.close()
        self._raw = raw[at:]
        return b"".join(pieces)

    def _read_text(self, text: bytes) -> None:
        text = self._text + text
        end = text.rfind(b"\n\n")
        if end < 0:
            self._text = text
            return
        blocks, self._text = text[: end + 1], text[end + 1 :]
        if b"\nretry:" in blocks:
            self._read_retry(blocks)
        if b"\nevent:" in blocks:
            for block in blocks.split(b"\n\n"):
                self._read_block(b"\n" + block.strip(b"\n") + b"\n")
        else:
            self._read_block(blocks)

    def _read_retry(self, blocks: bytes) -> None:
        at = blocks.rfind(b"\nretry: ")
        self.retry_ms = int(blocks[at + 8 : blocks.index(b"\n", at + 1)])
        self.opened = True

    def _read_block(self, block: bytes) -> None:
        """One block, or a run of blocks without a name."""
        at = block.rfind(b"\nid")
        if at >= 0:
            self.last_id = block[at + 5 : block.index(b"\n", at + 1)].decode()
        if b"\nevent:" in block:
            fields = dict(
                line.split(": ", 1) for line in block.decode().strip("\n").split("\n") if ": " in line
            )
            self.others.append((fields["event"], fields["data"]))
            return
        found = _NUMBERED.findall(block)
        assert len(found) == block.count(b"\ndata"), block
        if found:
            self._note_the_time()
            self.numbers.extend(map(int, found))


class Crowd:
    """Clients of one port, of every kind in turn."""

    def __init__(self, port: int, count: int, *, path: str = "/stream", last_id: str = "") -> None:
        self.port = port
        self.path = path
        self.cut_chance = 0.0
        """How likely a client is to lose its connection in the middle of what just arrived."""
        self.rest_seconds = 0.0
        """How long a client rests after having read `rest_bytes`, or any piece."""
        self.rest_bytes = 0
        self.receive_bytes = 0
        """What the system may hold for a client that rests; 0 leaves it to the system."""
        self.held = False
        self.closed = False
        self.members = [Member(self, *KINDS[number % len(KINDS)], last_id) for number in range(count)]
        self._tasks: set[asyncio.Task[None]] = set()
        # The usual soft limit is 1,024.
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def __aenter__(self) -> Self:
        self.start()
        await self.until(lambda member: member.opened)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed = True
        for member in self.members:
            member.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for member in self.members:
            member.cut()
        await asyncio.sleep(0)

    def start(self) -> None:
        """Connect everyone at once."""
        for member in self.members:
            self.spawn(member.connect())

    def spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def hold(self) -> None:
        """Whoever is cut off from now on waits for `release`."""
        self.held = True

    def release(self) -> None:
        """All who wait come back in the same instant."""
        self.held = False
        for member in self.members:
            if member.waits_to_start:
                member._start()

    async def until(self, reached: Callable[[Member], Any], seconds: float = 60) -> float:
        """Wait until it is so for every member; for how long that was."""
        start = time.monotonic()
        while True:
            missing = [member for member in self.members if not reached(member)]
            if not missing:
                return time.monotonic() - start
            dead = Counter(member.dead for member in self.members if member.dead)
            assert not dead, dead
            assert time.monotonic() - start < seconds, (
                f"{len(missing)} of {len(self.members)} clients are not there after {seconds} s; "
                f"the first has {len(missing[0].numbers)} documents, connected {missing[0].connects} times, "
                f"last id {missing[0].last_id}, events {missing[0].others[-3:]}"
            )
            await asyncio.sleep(0.02)

    async def until_last(self, seconds: float = 60) -> float:
        """Wait until everybody has had the last document; for how long that was."""
        return await self.until(lambda member: len(member.numbers) and member.numbers[-1] == LAST, seconds)

    def longest_silence(self) -> float:
        """For how long somebody had to wait for the next document."""
        return max(member.longest_silence for member in self.members)

    def events(self, *names: str) -> list[tuple[str, str]]:
        """The named events that anybody got."""
        return [event for member in self.members for event in member.others if event[0] in names]

    def check(self, truth: Iterable[int]) -> None:
        """Everybody had exactly these documents, each once, in this order, and was never reset."""
        assert not self.events("reset"), self.events("reset")[:3]
        expected = array("q", truth)
        for number, member in enumerate(self.members):
            assert member.numbers == expected, f"client {number}: {_difference(member.numbers, expected)}"


def _go_on(transport: asyncio.Transport) -> None:
    if not transport.is_closing():
        transport.resume_reading()


def _difference(got: array[int], expected: array[int]) -> str:
    twice = [number for number, times in Counter(got).items() if times > 1]
    lost = sorted(set(expected) - set(got))
    alien = sorted(set(got) - set(expected))
    at = next((n for n, pair in enumerate(zip(got, expected, strict=False)) if pair[0] != pair[1]), "the end")
    return (
        f"{len(got)} documents of {len(expected)}: {len(lost)} lost {lost[:5]}, "
        f"{len(twice)} twice {twice[:5]}, {len(alien)} never written {alien[:5]}; "
        f"the first difference is at {at}"
    )


class Writers:
    """Threads that insert numbered documents, and remember which were acknowledged. Every other one
    writes a batch as a transaction, whose changes share one cluster time. Each stops after `max_changes`.
    """

    def __init__(
        self,
        uri: str,
        database: str,
        count: int = 4,
        *,
        pause_seconds: float = 0.0,
        batch: int = 1,
        pad: int = 0,
        max_changes: int = SPAN,
    ) -> None:
        self._client: Any = pymongo.MongoClient(uri, serverSelectionTimeoutMS=30_000)
        self._collection = self._client.get_database(database).get_collection(
            "creatures", write_concern=WriteConcern("majority")
        )
        self._pause_seconds = pause_seconds
        self._batch = batch
        # Random, so that it stays large when it is compressed.
        self._pad = random.randbytes(pad // 2).hex()
        self._max_changes = max_changes
        self._stop = threading.Event()
        self.acknowledged: list[list[int]] = [[] for _ in range(count)]
        self.failures = 0
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._client.close()

    async def all(self) -> list[int]:
        """Wait until everyone has written its `max_changes`, and `finish`."""
        await self.more(self._max_changes * len(self._threads))
        return await self.finish()

    def count(self) -> int:
        """How many documents were acknowledged so far."""
        return sum(map(len, self.acknowledged))

    async def more(self, count: int, seconds: float = 30) -> None:
        """Wait until so many more have been acknowledged."""
        goal = self.count() + count
        async with asyncio.timeout(seconds):
            while self.count() < goal:
                await asyncio.sleep(0.01)

    async def finish(self) -> list[int]:
        """Stop, write the last document, and return what the log holds, in its order."""
        return await asyncio.to_thread(self._finish)

    def _finish(self) -> list[int]:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._collection.insert_one({"_id": LAST})
        name = self._collection.full_name
        ours = {"$or": [{"op": "i", "ns": name}, {"op": "c", "o.applyOps.ns": name}]}
        log = self._client.local["oplog.rs"].find(ours, {"op": 1, "o": 1})
        truth = [number for entry in log.sort("$natural", 1) for number in _inserted(entry)]
        acknowledged = {number for numbers in self.acknowledged for number in numbers}
        assert acknowledged <= set(truth), "MongoDB has lost what it had acknowledged"
        assert truth[-1] == LAST
        for writer in range(len(self._threads)):
            own = [number for number in truth if number // SPAN == writer]
            assert own == sorted(own)
        return truth

    def _write(self, writer: int) -> None:
        number = writer * SPAN
        while number % SPAN < self._max_changes and not self._stop.is_set():
            numbers = range(number, number + self._batch)
            number += self._batch
            try:
                self._insert([{"_id": n, "pad": self._pad} for n in numbers], in_transaction=writer % 2 == 1)
            except PyMongoError:
                # Nobody knows whether it was written; its number is never used again.
                self.failures += 1
            else:
                self.acknowledged[writer] += numbers
            self._stop.wait(self._pause_seconds)

    def _insert(self, documents: list[dict[str, Any]], *, in_transaction: bool) -> None:
        if not in_transaction:
            self._collection.insert_many(documents)
            return
        with self._client.start_session() as session:
            session.with_transaction(
                lambda session: self._collection.database.creatures.insert_many(documents, session=session),
                write_concern=WriteConcern("majority"),
            )


def _inserted(entry: dict[str, Any]) -> list[int]:
    """The numbers of an insert, or of a transaction, which is one entry of the log."""
    entries = [entry] if entry["op"] == "i" else entry["o"]["applyOps"]
    return [entry["o"]["_id"] for entry in entries if entry["op"] == "i"]
