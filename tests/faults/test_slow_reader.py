"""Readers that stop, and readers that are slow: the server's memory stays bounded, nobody else notices,
and whoever was cut off resumes without loss.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.support.crowd import Crowd, Writers
from tests.support.raw_client import Parser

MEGABYTE = 2**20


@pytest.mark.parametrize("bound", ["bytes", "time"])
def test_stopped_reader_is_cut_off_alone_and_resumes(bound, sandbox, database, start_server, tmp_path):
    """Much more comes than fits into the queue and the buffers of the system; only the victim notices."""
    server = start_server(
        "--mongo", sandbox.uri, "--database", database.name, "--history-max-bytes", str(4 * MEGABYTE),
        "--queue-max-bytes", str(4 * MEGABYTE if bound == "bytes" else 1024 * MEGABYTE),
        "--write-timeout-seconds", "60" if bound == "bytes" else "1",
    )  # fmt: skip
    process = psutil.Process(server.pid)
    numbers = itertools.count()
    rounds = 24 if bound == "bytes" else 14
    pad = random.randbytes(25_000).hex()
    victim = Curl(server.url, tmp_path / "first")

    async def insert(crowd: Crowd) -> float:
        """Insert 2.5 MB and wait until the crowd has them; for how long that was."""
        documents = [{"_id": next(numbers), "pad": pad} for _ in range(50)]
        await asyncio.to_thread(database.creatures.insert_many, documents)
        last = documents[-1]["_id"]
        return await crowd.until(lambda member: len(member.numbers) and member.numbers[-1] == last)

    async def scenario() -> None:
        async with Crowd(server.port, 6) as crowd:
            await victim.until(b"id: ")
            for _ in range(3):
                await insert(crowd)
            victim.signal(signal.SIGSTOP)
            before, most, slowest = process.memory_info().rss, 0, 0.0
            for _ in range(rounds):
                slowest = max(slowest, await insert(crowd))
                most = max(most, process.memory_info().rss)
            print(
                f"\nstopped reader, {bound}: {rounds * 50 * len(pad) / MEGABYTE:.0f} MB written, the "
                f"server grew by {(most - before) / MEGABYTE:.0f} MB to {most / MEGABYTE:.0f}, the others "
                f"waited at most {slowest * 1000:.0f} ms for 2.5 MB"
            )
            assert most - before < 32 * MEGABYTE
            assert slowest < 10
            if bound == "time":
                await asyncio.to_thread(server.wait_for, "client left .*write-timeout")
            victim.signal(signal.SIGCONT)
            await victim.ended()
            had = victim.read()
            again = Curl(server.url, tmp_path / "second", last_id=had.last_id)
            try:
                await insert(crowd)
                last = next(numbers)
                database.creatures.insert_one({"_id": last})
                await again.until(b'data: {"_id":%d}' % last)
            finally:
                again.stop()
            truth = list(range(last + 1))
            assert 0 < len(had.numbers) < (3 + rounds) * 50
            assert had.numbers + again.read().numbers == truth
            assert had.others == ([("bye", '{"reason":"slow-consumer"}')] if bound == "bytes" else [])
            await crowd.until(lambda member: member.numbers[-1] == last)
            crowd.check(truth)
            assert all(member.connects == 1 for member in crowd.members)

    try:
        asyncio.run(scenario())
    finally:
        victim.stop()


def test_slow_but_steady_readers_get_everything(sandbox, database, start_server):
    """24 MB come at once. A reader takes some 100 KB every 0.4 s, for three times the timeout.

    The system says that there is room only when a third of its own buffer is free, which may take longer
    than so short a timeout: a reader may be cut off, and then resumes.
    """
    server = start_server(
        "--mongo", sandbox.uri, "--database", database.name, "--write-timeout-seconds", "2",
        "--queue-max-bytes", str(64 * MEGABYTE),
    )  # fmt: skip

    async def scenario() -> None:
        crowd = Crowd(server.port, 4)
        crowd.rest_seconds = 0.4
        crowd.receive_bytes = 2**17
        async with crowd:
            with Writers(sandbox.uri, database.name, 2, batch=400, pad=30_000, max_changes=400) as writers:
                truth = await writers.all()
            await asyncio.sleep(6)
            assert all(len(member.numbers) < len(truth) for member in crowd.members), "nobody was slow"
            crowd.rest_seconds = 0
            await crowd.until_last()
            crowd.check(truth)

    asyncio.run(scenario())


@pytest.mark.parametrize("history_max_bytes", [64 * MEGABYTE, 0], ids=["memory", "log"])
def test_slow_readers_that_come_back_get_all_of_large_transactions(
    history_max_bytes, sandbox, database, start_server
):
    """The changes of a transaction share one cluster time, so a position in the midst of them matters."""
    server = start_server(
        "--mongo", sandbox.uri, "--database", database.name,
        "--history-max-bytes", str(history_max_bytes), "--warm-up-seconds", "0",
    )  # fmt: skip

    async def scenario() -> None:
        async with Crowd(server.port, 1) as crowd:
            before = crowd.members[0].last_id
            with Writers(sandbox.uri, database.name, 2, batch=250, pad=30_000) as writers:
                await writers.more(250)
                truth = await writers.finish()
            await crowd.until_last()
            crowd.check(truth)
        crowd = Crowd(server.port, 4, last_id=before)
        crowd.rest_seconds = 0.4
        crowd.rest_bytes = 2 * 2**20
        crowd.receive_bytes = 2**17
        async with crowd:
            await crowd.until_last()
            crowd.check(truth)

    asyncio.run(scenario())


class Curl:
    """curl, as a process of its own that can be stopped, with its output in a file."""

    def __init__(self, url: str, path: Path, last_id: str = "") -> None:
        self._path = path
        resume = ["-H", f"Last-Event-ID: {last_id}"] if last_id else []
        with path.open("wb") as output:
            self._process = subprocess.Popen(["curl", "-sN", *resume, url + "/stream"], stdout=output)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def read(self) -> Read:
        return Read(self._path.read_bytes())

    async def until(self, text: bytes) -> None:
        """Wait until it has written this."""
        async with asyncio.timeout(30):
            while text not in self._path.read_bytes():
                await asyncio.sleep(0.05)

    async def ended(self) -> None:
        """Wait until the server has closed its connection."""
        async with asyncio.timeout(30):
            while self._process.poll() is None:
                await asyncio.sleep(0.05)


class Read:
    """What a stream's bytes say: the numbers, and the last id."""

    def __init__(self, stream: bytes) -> None:
        parser = Parser()
        events = parser.feed(stream)
        self.last_id = parser.last_id
        self.numbers = [json.loads(event.data)["_id"] for event in events if event.event == "message"]
        self.others = [(event.event, event.data) for event in events if event.event != "message"]
