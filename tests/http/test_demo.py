"""The demo: a script that every client hears from the moment it connects."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest

from brook.errors import InvalidId
from brook.feed import Feed
from brook.streams import SingleStream
from sources.demo import SCRIPT, DemoSource
from tests.support.fakes import Client, Harness, until
from tests.support.processes import ROOT
from tests.support.raw_client import RawClient, Received

FAST = tuple((0.05 * number, f"line-{number}", f"Line {number}") for number in range(1, 4))


class Play:
    """A demo without sockets: clients connect to it as a handler would let them."""

    def __init__(self, script: tuple[tuple[float, str, str], ...]) -> None:
        self.harness = Harness()
        self.source = DemoSource(script)
        self.streams = SingleStream(private=True)
        self.feed = Feed(self.source, self.harness.list)

    def connect(self, last_id: str = "") -> Client:
        since = self.source.position(last_id) if last_id else None
        client = self.harness.connect(since, subscription=self.streams.subscription(None, {}))
        self.source.joined(client.subscriber.subscription, since)
        return client


@asynccontextmanager
async def playing(script=FAST) -> AsyncIterator[Play]:
    play = Play(script)
    running = asyncio.create_task(play.feed.run())
    await play.feed.started.wait()
    try:
        yield play
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


# -- the script that users see ---------------------------------------------------------------------


def test_script_is_the_one_of_the_protocol():
    assert SCRIPT == (
        (1.0, "demo-1", "Sending 1"),
        (2.0, "demo-2", "Sending 2"),
        (3.0, "demo-3", "Sending 3"),
    )


def test_demo_as_users_start_it(start_server):
    """Three clients at once: a new one, one that comes back, and one whose id nobody gave out."""
    server = start_server("--demo", "--heartbeat-seconds", "0.5", "--retry-ms", "777")

    async def read(events: int, **options) -> RawClient:
        began = time.monotonic()
        with closing(await RawClient(server.port, **options).connect()) as client:
            for _ in range(events):
                event = await client.next()
                # Not before its time; a loaded machine may well be late.
                if event.event == "message":
                    assert time.monotonic() - began >= int(event.id[-1]) - 0.05
            comments = client.parser.comments
            # It stays open after that, and is kept alive.
            async with asyncio.timeout(20):
                while client.parser.comments < comments + 2:
                    assert await client.read()
            return client

    async def scenario() -> None:
        new, back, query, stranger = await asyncio.gather(
            read(3), read(1, last_id="demo-2"), read(2, path="/stream?since=demo-1"), read(4, last_id="x")
        )
        lines = [Received("message", f"Sending {number}", f"demo-{number}") for number in (1, 2, 3)]
        assert new.events == lines
        assert back.events == lines[2:]
        assert query.events == lines[1:]
        assert stranger.events == [Received("reset", '{"reason":"invalid-id","since":"x"}', ""), *lines]
        assert new.parser.retry == 777
        without_comments = [block for block in new.parser.blocks if block != [":"]]
        assert without_comments == [
            ["retry: 777"], *([f"id: demo-{n}", f"data: Sending {n}"] for n in (1, 2, 3))
        ]  # fmt: skip

    asyncio.run(scenario())
    assert server.stop() == 0


def test_demo_runs_where_there_is_no_driver(start_server, tmp_path):
    for name in ("motor", "pymongo", "bson", "gridfs"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('there is no driver here')\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    blocked = subprocess.run(
        [sys.executable, "-c", "import pymongo"], env=environment, cwd=ROOT, capture_output=True, timeout=60
    )
    assert b"there is no driver here" in blocked.stderr
    server = start_server("--demo", env=environment)

    async def scenario() -> None:
        with closing(await RawClient(server.port).connect()) as client:
            assert (await client.next()).data == "Sending 1"

    asyncio.run(scenario())


# -- a faster script -------------------------------------------------------------------------------


def test_each_client_hears_its_own_performance_from_its_beginning():
    async def scenario() -> None:
        async with playing() as play:
            first = play.connect()
            await until(lambda: first.data() == ["line-1"])
            second = play.connect()
            await until(lambda: len(second.data()) == 3)
            for client in (first, second):
                assert [(event.id, event.data) for event in client.heard()] == [
                    ("line-1", "Line 1"), ("line-2", "Line 2"), ("line-3", "Line 3"),
                ]  # fmt: skip
            assert len(play.harness.history) == 0

    asyncio.run(scenario())


def test_lines_come_when_they_are_due_whatever_their_order_in_the_script():
    script = ((0.2, "c", "3"), (0.0, "a", "1"), (0.1, "b", "2"), (0.2, "d", "4"))

    async def scenario() -> None:
        async with playing(script) as play:
            began = time.monotonic()
            client = play.connect()
            await until(lambda: client.data() == ["a"])
            await until(lambda: len(client.data()) == 4)
            assert time.monotonic() - began >= 0.2
            assert client.data() == ["a", "b", "c", "d"]

    asyncio.run(scenario())


@pytest.mark.parametrize("last", [1, 2, 9, 10, 12])
def test_client_that_comes_back_hears_the_rest_only_however_long_the_script(last):
    script = tuple((0.001 * number, f"demo-{number}", str(number)) for number in range(1, 13))

    async def scenario() -> None:
        async with playing(script) as play:
            client, canary = play.connect(f"demo-{last}"), play.connect()
            await until(lambda: len(canary.data()) == 12)
            assert client.data() == [f"demo-{number}" for number in range(last + 1, 13)]

    asyncio.run(scenario())


def test_one_that_leaves_in_the_middle_disturbs_nobody():
    async def scenario() -> None:
        async with playing() as play:
            leaving, staying = play.connect(), play.connect()
            await until(leaving.data)
            play.harness.list.remove(leaving.subscriber)
            await until(lambda: len(staying.data()) == 3)
            assert leaving.data() == ["line-1"]

    asyncio.run(scenario())


def test_many_clients_are_played_to_by_one_task():
    async def scenario() -> None:
        async with playing() as play:
            tasks = len(asyncio.all_tasks())
            clients = [play.connect() for _ in range(300)]
            await until(lambda: all(len(client.data()) == 3 for client in clients))
            assert len(asyncio.all_tasks()) <= tasks

    asyncio.run(scenario())


@pytest.mark.parametrize("id", ["", "demo-0", "demo-4", "demo-1 ", "Demo-1", "t1.2", "demo-\u0661"])
def test_id_that_is_not_in_the_script_is_no_position(id):
    with pytest.raises(InvalidId, match="the demo has no event"):
        DemoSource().position(id)
