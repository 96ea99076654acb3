"""A subscriber list with connections that are as busy as a test wants them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

from brook.delivery.connection import Buffer
from brook.delivery.history import History
from brook.delivery.keeper import Keeper
from brook.delivery.replay import Replayer
from brook.delivery.subscriber import WRITE_BYTES, Subscriber
from brook.delivery.subscribers import SubscriberList
from brook.event import Batch, Event, Position, Reset
from brook.live.result_sets import ResultSets
from brook.settings import Settings
from brook.subscription import Subscription, Wanted
from handlers.framing import Framing
from sources.demo import DemoSource
from tests.support.events import Clock, after
from tests.support.raw_client import Parser, Received

BARE = Framing(chunked=False, compressed=False)


CHUNKED = Framing(chunked=True, compressed=False)


class FakeConnection:
    """A socket that takes `room` bytes, then a piece more into its buffer, then nothing.

    `drain` makes room and reports it, as the real one does from the event loop.
    """

    def __init__(self, room: float = float("inf"), framing=BARE) -> None:
        self.framing = framing
        self.room = room
        self.sent: list[Buffer] = []
        self.received = b""
        self.closed = False
        self.buffered: bytes | None = None

    @property
    def socket(self) -> FakeSocket:
        return FakeSocket(self)

    def take_now(self, data: Buffer) -> int:
        assert self.buffered is None, "written to before what it was given is through"
        if self.closed:
            raise OSError("closed")
        if not self.room:
            raise BlockingIOError
        self.sent.append(data)
        taken = int(min(self.room, len(data)))
        self.room -= taken
        self.received += data[:taken]
        return taken

    def send(self, data: Buffer) -> Buffer | None:
        assert self.buffered is None, "written to before what it was given is through"
        self.sent.append(data)
        if self.closed:
            return None
        taken = int(min(self.room, len(data)))
        self.room -= taken
        self.received += data[:taken]
        if taken == len(data):
            return None
        rest = memoryview(data)[taken:]
        self.buffered = bytes(rest[:WRITE_BYTES])
        return rest[WRITE_BYTES:]

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


@dataclass(frozen=True, slots=True)
class FakeSocket:
    """The shortest way into a connection."""

    connection: FakeConnection

    def send(self, data: Buffer) -> int:
        return self.connection.take_now(data)


class Client:
    """A subscriber with a fake connection, and what it has heard."""

    def __init__(self, harness: Harness, connection: FakeConnection, subscription: Wanted) -> None:
        self.harness = harness
        self.connection = connection
        self.subscriber = Subscriber(subscription, connection, harness.settings.queue_max_bytes)
        self.read = 0
        self.parser = Parser()
        self.events: list[Received] = []
        self.ids: list[str] = []
        """Every id it was sent, with data and without, in order."""

    def heard(self) -> list[Received]:
        """Everything that it has been sent so far."""
        fresh, self.read = self.connection.received[self.read :], len(self.connection.received)
        self.events += self.parser.feed(fresh)
        self.ids = [row[4:] for block in self.parser.blocks for row in block if row.startswith("id: ")]
        return self.events

    def data(self) -> list[str]:
        """The ids of the events that it has heard."""
        return [event.id for event in self.heard()]

    def drain(self, room: float = float("inf")) -> None:
        """The socket takes what is in its buffer, and `room` bytes more."""
        buffered, self.connection.buffered = self.connection.buffered, None
        self.connection.room = room
        if buffered is not None and not self.connection.closed:
            self.connection.received += buffered
            self.harness.list.drained(self.subscriber)

    def drain_slowly(self, room: float = 0) -> None:
        """The socket makes room time and again, until nothing waits."""
        while self.connection.buffered is not None:
            self.drain(room)
        self.drain()


class Timers:
    """Calls in the future of a clock that a test moves."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[Timer, float] = {}

    def __bool__(self) -> bool:
        return bool(self._due)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(self, callback)
        self._due[timer] = self._clock.now + delay
        return timer

    def cancel(self, timer: Timer) -> None:
        self._due.pop(timer, None)

    def ring(self) -> None:
        """Make the calls that are due."""
        for timer in [timer for timer, due in self._due.items() if due <= self._clock.now]:
            if timer in self._due:
                del self._due[timer]
                timer.callback()


@dataclass(frozen=True, eq=False)
class Timer:
    timers: Timers
    callback: Callable[[], None]

    def cancel(self) -> None:
        self.timers.cancel(self)


class Harness:
    """A subscriber list, and everything around it but sockets."""

    def __init__(self, source=None, cursors: int = 4, replay=None, **options) -> None:
        options = {"heartbeat_seconds": 0.1, "write_timeout_seconds": 0.2} | options
        self.clock = Clock()
        self.settings = Settings(**options)
        self.history = History(self.settings.history_max_bytes, self.settings.history_seconds, self.clock)
        self.behind: list[Subscriber] = []
        """Subscribers that the list gave away to catch up, if nobody else does."""
        self.source = source if source is not None else DemoSource(())
        self.replayer = (
            Replayer(source, self.history, cursors, **(replay or {})) if source is not None else None
        )
        self.timers = Timers(self.clock)
        self.result_sets = ResultSets(
            self.settings, self.source, self.history, self.clock, self.timers.call_later
        )
        self.list = SubscriberList(
            self.settings, self.history, self.replayer or self, live=self.result_sets, clock=self.clock
        )
        self.keeper = Keeper(self.settings, self.history, self.list, self.source, self.clock)

    def take(self, subscriber: Subscriber, delivery: SubscriberList) -> None:
        self.behind.append(subscriber)

    def forget(self, subscriber: Subscriber) -> None:
        pass

    def connect(
        self,
        since: Position | None = None,
        *,
        room: float = float("inf"),
        subscription: Wanted | None = None,
        reset: Reset | None = None,
        framing=BARE,
        opened: bytes = b"",
        fresh: frozenset[str] = frozenset(),
    ) -> Client:
        client = Client(self, FakeConnection(room, framing), subscription or Subscription())
        self.list.add(client.subscriber, since, reset, opened=opened, fresh=fresh)
        return client

    def publish(self, *happened: Event, checkpoint: Position | None = None, **options) -> None:
        self.list.publish(Batch(happened, checkpoint, **options))

    def start(self, number: int = 0) -> None:
        """The log begins after event `number`."""
        self.list.publish(Batch(checkpoint=after(number), restarted=True))


@dataclass(frozen=True, slots=True)
class Louder(Subscription):
    """Another thing that a client may ask for."""

    volume: int = 1


async def until(condition, seconds: float = 20) -> None:
    """Wait for something that a task will bring about."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def dechunk(body: bytes) -> tuple[bytes, bool]:
    """The content of a chunked body, and whether it was ended as it should."""
    content = b""
    while body:
        size, body = re.fullmatch(rb"([0-9a-f]+)\r\n(.*)", body, re.DOTALL).groups()
        length = int(size, 16)
        assert body[length : length + 2] == b"\r\n"
        content, body = content + body[:length], body[length + 2 :]
        if length == 0:
            assert body == b""
            return content, True
    return content, False
