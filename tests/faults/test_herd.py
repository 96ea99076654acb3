"""Two thousand clients that come back in the same instant, each two thousand changes behind."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pymongo
import pytest

from brook.settings import Settings
from tests.support.crowd import Crowd, Writers

CLIENTS = 2000
CHANGES = 2000
REPLAYS = Settings().replay_cursors


@pytest.mark.parametrize(
    ("place", "options"),
    [
        ("memory", ()),
        ("log", ("--history-max-bytes", "0", "--warm-up-seconds", "0")),
    ],
)
def test_herd_that_returns_after_a_restart_is_served_with_a_handful_of_cursors(
    place, options, sandbox, database, start_server
):
    server = start_server("--mongo", sandbox.uri, "--database", database.name, *options)

    async def scenario() -> None:
        async with Crowd(server.port, CLIENTS) as crowd:
            crowd.hold()
            server.kill()
            with Writers(sandbox.uri, database.name, 2, batch=50, max_changes=CHANGES // 2) as writers:
                truth = await writers.all()
            with Cursors(sandbox.uri, database.name) as cursors:
                await asyncio.to_thread(server.start)
                process = psutil.Process(server.pid)
                await crowd.until(lambda member: member.waits_to_start)
                cpu_seconds = sum(process.cpu_times()[:2])
                start = time.monotonic()
                crowd.release()
                await crowd.until_last()
                seconds = time.monotonic() - start
                cpu_seconds = sum(process.cpu_times()[:2]) - cpu_seconds
                crowd.check(truth)
                until_one = await asyncio.to_thread(cursors.wait_for_one)
            print(
                f"\nherd from {place}: {len(truth)} changes to {CLIENTS} clients in {seconds:.1f} s, "
                f"{cpu_seconds:.1f} s of CPU, {process.memory_info().rss / 2**20:.0f} MB, at most "
                f"{max(cursors.samples)} cursors in {len(cursors.samples)} samples, "
                f"and one after {until_one:.1f} s more"
            )
            assert max(cursors.samples) <= 1 + (REPLAYS if place == "log" else 0)
            assert place == "memory" or max(cursors.samples) > 1, "nothing was read from the log"
            assert all(member.connects == 2 for member in crowd.members)

    asyncio.run(scenario())


@pytest.mark.parametrize("collection", ["creatures", "others"])
def test_replay_ends_soon_whatever_goes_on_being_written(collection, sandbox, database, start_server):
    """The live stream and a replay read the same log, each at its own pace, and must become one."""
    server = start_server("--mongo", sandbox.uri, "--database", database.name, "--warm-up-seconds", "0")

    async def scenario() -> None:
        async with Crowd(server.port, 1) as crowd:
            await crowd.until(lambda member: member.last_id)
            before = crowd.members[0].last_id
        database.creatures.insert_many([{"_id": number} for number in range(CHANGES)])
        server.kill()
        with Cursors(sandbox.uri, database.name) as cursors, _noise(database[collection]):
            await asyncio.to_thread(server.start)
            async with Crowd(server.port, 20, last_id=before) as crowd:
                await crowd.until(lambda member: len(member.numbers) >= CHANGES)
                await asyncio.to_thread(cursors.wait_for_one)
                assert max(cursors.samples) > 1, "nothing was read from the log"

    asyncio.run(scenario())


@contextlib.contextmanager
def _noise(collection: Any) -> Iterator[None]:
    """Somebody who goes on and on inserting documents."""
    stop = threading.Event()

    def insert() -> None:
        number = CHANGES
        while not stop.wait(0.003):
            collection.insert_one({"_id": number})
            number += 1

    thread = threading.Thread(target=insert)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class Cursors:
    """Counts the change streams that are opened on one database, over and over.

    Not those that are there at first: a server that was killed could not close its own, and MongoDB
    keeps it for a while.
    """

    def __init__(self, uri: str, database: str) -> None:
        self._client: Any = pymongo.MongoClient(uri)
        self._database = database
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.samples: list[int] = []
        self._old = self._open()

    def __enter__(self) -> Cursors:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def _open(self) -> set[int]:
        operations = self._client.admin.aggregate([{"$currentOp": {"allUsers": True, "idleCursors": True}}])
        found = set()
        for operation in operations:
            cursor = operation.get("cursor", {})
            command = cursor.get("originatingCommand", operation.get("command", {}))
            stages = command.get("pipeline", [])
            if command.get("$db") == self._database and stages and "$changeStream" in stages[0]:
                found.add(cursor.get("cursorId", operation.get("opid")))
        return found

    def wait_for_one(self, seconds: float = 20) -> float:
        """Wait until there is exactly one; for how long that was."""
        start = time.monotonic()
        while len(self._open() - self._old) != 1:
            assert time.monotonic() - start < seconds, self.samples[-10:]
            time.sleep(0.05)
        return time.monotonic() - start

    def _sample(self) -> None:
        while not self._stop.wait(0.02):
            self.samples.append(len(self._open() - self._old))
