"""A load that stays the same: a writer, clients that stay, and clients that come and go."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import orjson
import pymongo

from tests.chaos.wire import Connection

DOCUMENTS = 200
"""In the collection at any time: each insert is followed by a delete."""
WRITES_PER_SECOND = 50
STEADY = 100
VISITS_PER_SECOND = 8
VISIT_SECONDS = (0.2, 4.0)


class Listener:
    """A client that stays. It counts, and a plain one measures how long an insert takes to arrive."""

    def __init__(self, port: int, path: str, latencies: list[float]) -> None:
        self.events = 0
        self.lost = 0
        self.ends = 0
        self._latencies = latencies
        self._last = -1
        self._port = port
        self._connection = Connection(self, path, "1.1", "identity", "")

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self._connection, "127.0.0.1", self._port)

    def close(self) -> None:
        self._connection.abort()

    def opened(self) -> None:
        pass

    def failed(self, why: str) -> None:
        self.ends += 1

    def ended(self) -> None:
        self.ends += 1

    def block(self, lines: list[bytes]) -> None:
        data = next((line[6:] for line in lines if line.startswith(b"data: ")), b"")
        if not data:
            return
        self.events += 1
        if not any(line.startswith(b"event: ") for line in lines):
            document = orjson.loads(data)
            self._latencies.append(time.time() - document["at"])
            self.lost += self._last >= 0 and document["n"] != self._last + 1
            self._last = document["n"]


class Load:
    """All of it, on one server."""

    def __init__(self, uri: str, port: int, seed: int) -> None:
        self._port = port
        self._chance = random.Random(seed)
        self._client: Any = pymongo.MongoClient(uri)
        self._creatures = self._client.soak.creatures
        self.latencies: list[float] = []
        """Since they were last taken, in seconds."""
        self.written = 0
        self.visits = 0
        window = "/stream/creatures?mode=live&limit=20&sort=" + quote('{"n":-1}')
        plain = ["/stream/creatures"] * 6
        others = [
            "/stream/creatures?format=envelope", "/stream/creatures?mode=live",
            "/stream/creatures?mode=count", window,
        ]  # fmt: skip
        paths = itertools.islice(itertools.cycle(plain + others), STEADY)
        self.listeners = [Listener(port, path, self.latencies) for path in paths]

    async def run(self) -> None:
        """For ever."""
        for listener in self.listeners:
            await listener.connect()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write())
            group.create_task(self._let_visit(group))

    def close(self) -> None:
        for listener in self.listeners:
            listener.close()
        self._client.close()

    async def _write(self) -> None:
        due = time.monotonic()
        for number in itertools.count():
            await asyncio.to_thread(self._write_one, number)
            self.written += 1
            due += 1 / WRITES_PER_SECOND
            await asyncio.sleep(max(0, due - time.monotonic()))

    def _write_one(self, number: int) -> None:
        document = {"_id": number, "n": number, "owner": number % 50, "pad": "~" * 200, "at": time.time()}
        self._creatures.insert_one(document)
        self._creatures.delete_one({"_id": number - DOCUMENTS})

    async def _let_visit(self, group: asyncio.TaskGroup) -> None:
        for path in self._paths():
            group.create_task(self._visit(path, self._chance.uniform(*VISIT_SECONDS)))
            self.visits += 1
            await asyncio.sleep(1 / VISITS_PER_SECOND)

    def _paths(self) -> Iterator[str]:
        """Subscriptions that nobody had before, and some that others have."""
        newest = quote('{"n":1}')
        for number in itertools.count():
            owner = quote(json.dumps({"owner": self._chance.randrange(50), "n": {"$gte": number % 1000}}))
            yield self._chance.choice([
                f"/stream/creatures?filter={owner}",
                f"/stream/creatures?mode=live&filter={owner}",
                f"/stream/creatures?mode=live&filter={owner}&every=200",
                f"/stream/creatures?mode=live&sort={newest}&limit={1 + number % 30}&filter={owner}",
                "/stream/creatures?format=envelope",
                f"/documents/creatures?filter={owner}",
                "/stream/creatures?filter=nonsense",
            ])  # fmt: skip

    async def _visit(self, path: str, seconds: float) -> None:
        """Read for a while, then leave without a word."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            async with asyncio.timeout(seconds):
                while await reader.read(65536):
                    pass
        except (TimeoutError, OSError):
            pass
        finally:
            writer.transport.abort()
