"""A thousand clients that come and go, most of them rudely, leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import itertools
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psutil
import tornado.httpserver
import tornado.netutil
from tornado.iostream import IOStream

from brook.admission import Everyone
from brook.delivery.history import History
from brook.delivery.keeper import Keeper
from brook.delivery.replay import Replayer
from brook.delivery.subscriber import Subscriber
from brook.delivery.subscribers import SubscriberList
from brook.feed import Feed
from brook.namespaces import Namespaces
from brook.parameters import CollectionStreams
from brook.readiness import Readiness
from brook.settings import Settings
from handlers import application
from handlers.connection import StreamConnection
from server import STATIC
from sources.mongo import MongoSource
from tests.support.processes import ServerProcess

CONNECTS = 1000
AT_ONCE = 50
LARGE_BYTES = 300_000
SMALL_BYTES = 20_000


class Visitor:
    """A connection, and the ways to leave it."""

    def __init__(self, port: int, old_id: str) -> None:
        self.port = port
        self.old_id = old_id

    async def connect(self) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)

    def say(self, text: str) -> None:
        self.writer.write(text.encode())

    def ask(self, http: str = "1.1", fields: str = "") -> None:
        self.say(f"GET /stream HTTP/{http}\r\nHost: localhost\r\n{fields}\r\n")

    async def hear(self, text: bytes) -> None:
        await self.reader.readuntil(text)

    def reset(self) -> None:
        """Send RST: the peer's next read or write fails."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def end(self) -> None:
        """Wait for the server to close, or to reset."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


async def leaves_at_once(_: Visitor) -> None:
    pass


async def resets_at_once(visitor: Visitor) -> None:
    visitor.reset()


async def leaves_in_the_request_line(visitor: Visitor) -> None:
    visitor.say("GET /str")


async def leaves_in_the_headers(visitor: Visitor) -> None:
    visitor.say("GET /stream HTTP/1.1\r\nHost: loc")
    await asyncio.sleep(0)
    visitor.reset()


async def leaves_before_the_answer(visitor: Visitor) -> None:
    visitor.ask()


async def resets_before_the_answer(visitor: Visitor) -> None:
    visitor.ask("1.0")
    await asyncio.sleep(0)
    visitor.reset()


async def leaves_after_the_opening(visitor: Visitor) -> None:
    visitor.ask()
    await visitor.hear(b"retry: ")


async def resets_after_the_opening(visitor: Visitor) -> None:
    visitor.ask(fields="Accept-Encoding: gzip\r\n")
    await visitor.hear(b"\r\n\r\n")
    visitor.reset()


async def closes_its_half(visitor: Visitor) -> None:
    visitor.ask("1.0")
    await visitor.hear(b"retry: ")
    visitor.writer.write_eof()
    await visitor.end()


async def goes_on_talking(visitor: Visitor) -> None:
    visitor.ask()
    visitor.ask()
    await visitor.end()


async def leaves_in_a_frame(visitor: Visitor) -> None:
    visitor.ask()
    await visitor.hear(b"data: ")
    await visitor.reader.readexactly(SMALL_BYTES // 3)


async def leaves_with_a_queue(visitor: Visitor) -> None:
    visitor.writer.transport.pause_reading()
    visitor.ask("1.0")
    await asyncio.sleep(0.3)
    visitor.reset()


async def leaves_while_it_catches_up(visitor: Visitor) -> None:
    visitor.ask(fields=f"Last-Event-ID: {visitor.old_id}\r\n")
    await visitor.hear(b"retry: ")
    await asyncio.sleep(0.06)


async def resets_while_it_is_about_to_catch_up(visitor: Visitor) -> None:
    visitor.ask(fields=f"Last-Event-ID: {visitor.old_id}\r\n")
    await asyncio.sleep(0.01)
    visitor.reset()


async def brings_a_false_id(visitor: Visitor) -> None:
    visitor.ask(fields="Last-Event-ID: 12\r\n")
    await visitor.hear(b"event: reset")


async def talks_nonsense(visitor: Visitor) -> None:
    visitor.say("\x16\x03\x01 nonsense\r\n\r\n")
    await visitor.end()


async def asks_for_something_else(visitor: Visitor) -> None:
    visitor.say("GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await visitor.hear(b"404 Not Found")


MANNERS: list[Callable[[Visitor], Awaitable[None]]] = [
    leaves_at_once,
    resets_at_once,
    leaves_in_the_request_line,
    leaves_in_the_headers,
    leaves_before_the_answer,
    resets_before_the_answer,
    leaves_after_the_opening,
    resets_after_the_opening,
    closes_its_half,
    goes_on_talking,
    leaves_in_a_frame,
    leaves_with_a_queue,
    leaves_while_it_catches_up,
    resets_while_it_is_about_to_catch_up,
    brings_a_false_id,
    talks_nonsense,
    asks_for_something_else,
]


async def visits(port: int, count: int, collection: Any, document_bytes: int) -> None:
    """So many visitors, with every manner in turn, while documents are written."""
    old_id = await _position(port)
    turns = iter(range(count))
    stop = asyncio.Event()
    numbers = itertools.count()

    async def write() -> None:
        while not stop.is_set():
            await asyncio.to_thread(collection.insert_one, {"n": next(numbers), "pad": "x" * document_bytes})
            await asyncio.sleep(0.02)

    async def come_and_go() -> None:
        for turn in turns:
            visitor = Visitor(port, old_id)
            await visitor.connect()
            try:
                async with asyncio.timeout(30):
                    await MANNERS[turn % len(MANNERS)](visitor)
            finally:
                visitor.writer.transport.abort()

    writing = asyncio.create_task(write())
    await asyncio.gather(*(come_and_go() for _ in range(AT_ONCE)))
    stop.set()
    await writing


async def _position(port: int) -> str:
    """A checkpoint, as an opening gives it."""
    visitor = Visitor(port, "")
    await visitor.connect()
    visitor.ask()
    await visitor.hear(b"id: ")
    id = await visitor.reader.readuntil(b"\n")
    visitor.writer.transport.abort()
    return id.decode().strip()


async def _until_equal(expected: Any, measure: Callable[[], Any]) -> None:
    """Wait until what is left is what was there."""
    for _ in range(300):
        if measure() == expected:
            return
        await asyncio.sleep(0.05)
    assert measure() == expected


def test_thousand_rude_visits_leave_no_subscriber_task_or_descriptor(sandbox, database):
    def alive() -> dict[str, int]:
        gc.collect()
        kinds = Counter(type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, KEPT))
        return dict(kinds)

    process = psutil.Process()
    mongo_port = sandbox.nodes[0].port

    async def scenario() -> None:
        async with _application(sandbox.uri, database.name) as (port, subscribers):
            await visits(port, len(MANNERS), database.creatures, LARGE_BYTES)
            await _until_equal(0, lambda: len(subscribers))
            await _until_equal({}, alive)
            tasks = _tasks()
            descriptors = _descriptors(process, mongo_port)
            most = 0

            async def watch() -> None:
                nonlocal most
                while True:
                    most = max(most, len(subscribers))
                    await asyncio.sleep(0.01)

            watching = asyncio.create_task(watch())
            await visits(port, CONNECTS, database.creatures, LARGE_BYTES)
            watching.cancel()
            assert most > 5, "nobody ever was in the list"
            await _until_equal(0, lambda: len(subscribers))
            await _until_equal(tasks, _tasks)
            await _until_equal({}, alive)
            await _until_equal(descriptors, lambda: _descriptors(process, mongo_port))
            assert set(dataclasses.astuple(subscribers.statistics())) == {0}

    asyncio.run(scenario())


def test_thousand_rude_visits_leave_a_server_as_it_was(sandbox, database, start_server):
    # What large documents leave in the allocator's pools would hide what a visitor does.
    server = start_server(
        "--mongo", sandbox.uri, "--database", database.name, "--history-max-bytes", "1000000"
    )
    process = psutil.Process(server.pid)
    mongo_port = sandbox.nodes[0].port

    async def scenario() -> None:
        descriptors = _descriptors(process, mongo_port)
        await visits(server.port, CONNECTS // 2, database.creatures, SMALL_BYTES)
        first = process.memory_info().rss
        await visits(server.port, CONNECTS, database.creatures, SMALL_BYTES)
        await _until_equal(descriptors, lambda: _descriptors(process, mongo_port))
        grown = process.memory_info().rss - first
        print(f"\nleaks: the server grew by {grown / 2**20:.1f} MB to {(first + grown) / 2**20:.0f} MB")
        assert grown < 16 * 2**20

    asyncio.run(scenario())
    _still_serves(server)


KEPT = (Subscriber, StreamConnection, IOStream)


@contextlib.asynccontextmanager
async def _application(uri: str, database: str) -> AsyncIterator[tuple[int, SubscriberList]]:
    """What `server.py` builds, in this process."""
    settings = Settings(database=database, history_max_bytes=1_000_000, heartbeat_seconds=0.1)
    source = MongoSource(uri, settings)
    history = History(settings.history_max_bytes, settings.history_seconds)
    replayer = Replayer(source, history, settings.replay_cursors)
    subscribers = SubscriberList(settings, history, replayer)
    feed = Feed(source, subscribers)
    await source.open()
    tasks = [
        asyncio.create_task(feed.run()),
        asyncio.create_task(Keeper(settings, history, subscribers, source).run()),
    ]
    await feed.started.wait()
    streams = CollectionStreams(Namespaces.of(settings))
    app = application(settings, Everyone(streams), source, subscribers, Readiness(feed), STATIC)
    server = tornado.httpserver.HTTPServer(app)
    sockets = tornado.netutil.bind_sockets(0, "127.0.0.1", backlog=1024)
    server.add_sockets(sockets)
    try:
        yield sockets[0].getsockname()[1], subscribers
    finally:
        server.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await replayer.close()
        await source.close()


def _tasks() -> dict[str, int]:
    """The names of the coroutines that run, and how often each does."""
    return dict(Counter(task.get_coro().__qualname__ for task in asyncio.all_tasks()))


def _descriptors(process: psutil.Process, mongo_port: int) -> int:
    """How many there are, without the driver's pool of connections, which is bounded by the cursors."""
    remotes = [connection.raddr for connection in process.net_connections("tcp") if connection.raddr]
    pool = sum(remote.port == mongo_port for remote in remotes)
    assert pool < 20
    return process.num_fds() - pool


def _still_serves(server: ServerProcess) -> None:
    async def scenario() -> None:
        assert await _position(server.port)

    asyncio.run(scenario())
