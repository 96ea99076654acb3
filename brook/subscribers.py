"""Who is listening: the list through which every event goes from the source to the sockets.

Nothing in here awaits but `keep`: on one event loop that is the lock, and nobody's slowness reaches
anybody else.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Protocol

from brook import sse
from brook.event import Batch, Position, Reset, Subscription
from brook.history import History
from brook.settings import Settings

log = logging.getLogger(__name__)

Buffer = bytes | memoryview
Wrap = Callable[[bytes], bytes]

# How much of its queue a slow subscriber is given at a time: each write that completes counts as
# progress, so one that takes a large document slowly is not mistaken for one that is stuck.
WRITE_BYTES = 64 * 1024

# How much a subscriber that catches up may read in one turn of the loop before others have theirs.
CATCH_UP_BLOCKS = 16

# How many keep-alives are sent in one turn of the loop.
KEEP_ALIVES_PER_TURN = 500


class Bye(enum.StrEnum):
    """Why a connection ends: the word in the frame, the log and the docs."""

    SHUTDOWN = "shutdown"
    SLOW_CONSUMER = "slow-consumer"
    CLIENT_LEFT = "client-left"
    WRITE_TIMEOUT = "write-timeout"


class Connection(Protocol):
    """The way out, as a handler gives it to its subscriber. Neither method waits or raises."""

    @property
    def wrap(self) -> Wrap:
        """Frames a piece of the body. Subscribers with the same function share the framed bytes."""

    @property
    def end(self) -> bytes:
        """What ends the body."""

    def send(self, data: Buffer) -> Buffer | None:
        """Write what the socket takes. None: all of it. Otherwise the rest, which the caller keeps
        and sends once `SubscriberList.drained` was called.
        """

    def close(self) -> None:
        """Give the socket back."""


class State(enum.Enum):
    """Where a subscriber stands."""

    LIVE = "is sent every batch as it is published"
    CATCHING_UP = "reads on from the history whenever its socket has room"
    REPLAYING = "is behind the history; the replayer has it"
    CLOSING = "has been said goodbye to; its last bytes are going out"
    GONE = "has left the list"


class Subscriber:
    """One client. The list owns every field; bounded by `queue_max_bytes`."""

    __slots__ = (
        "__weakref__", "bytes", "connection", "events", "joined", "position", "queue", "queued_bytes",
        "resumed", "seen", "state", "subscription", "waiting",
    )  # fmt: skip

    def __init__(self, subscription: Subscription, connection: Connection) -> None:
        self.subscription = subscription
        self.connection = connection
        self.state = State.CATCHING_UP
        self.joined = time.monotonic()
        self.resumed = False
        self.position: Position | None = None
        """Up to where it has been offered everything; only kept while it is not live."""
        self.seen = ""
        """The highest key among the ids it was sent; its group knows of later ones."""
        self.waiting = False
        """The connection has not yet written what it was given."""
        self.queue: deque[Buffer] = deque()
        self.queued_bytes = 0
        self.events = 0
        self.bytes = 0


class _Group:
    """The live subscribers that get the same bytes, and what these came to."""

    __slots__ = ("bytes", "events", "last_key", "members")

    def __init__(self) -> None:
        self.members: dict[Subscriber, None] = {}
        self.events = 0
        self.bytes = 0
        self.last_key = ""


class SubscriberList:
    """The list of active connections, and the only way to them."""

    def __init__(
        self, settings: Settings, history: History, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._history = history
        self._clock = clock
        self._groups: dict[int, dict[tuple[Subscription, Wrap], _Group]] = {}
        """The live ones: by audience, then by what makes their bytes the same."""
        self._silent: OrderedDict[Subscriber, float] = OrderedDict()
        """Every subscriber, by the time of its last traffic, longest silence first."""
        self._stuck: OrderedDict[Subscriber, float] = OrderedDict()
        """Those whose socket is full, by the time of their last progress."""
        self._checkpoint: Position | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        self.behind: Callable[[Subscriber], None] = self._reset_lost
        """Takes a subscriber whose position the history does not cover; the replayer sets it."""

    def __len__(self) -> int:
        return len(self._silent)

    def add(self, subscriber: Subscriber, since: Position | None, reset: Reset | None = None) -> None:
        """Open a subscriber's stream: from `since`, or from now, after a `reset` if there is one.

        What the history holds and the live tail are joined in one step: no gap, no repeat.
        """
        self._empty.clear()
        self._silent[subscriber] = self._clock()
        opening = sse.retry(self._settings.retry_ms)
        if reset is not None:
            opening += reset.frame(subscriber.subscription)
        subscriber.resumed = since is not None
        if since is None or subscriber.subscription.audience:
            # A source that plays to each one alone knows itself where it left off.
            self._join(subscriber, opening)
        else:
            subscriber.position = since
            self.catch_up(subscriber, opening)

    def publish(self, batch: Batch) -> None:
        """Give a batch to every live subscriber: rendered once a subscription, written once a subscriber."""
        if batch.restarted:
            self._restart(batch.checkpoint)
        if batch.events and not batch.audience:
            self._history.append(batch.events)
        now = self._clock()
        over: list[Subscriber] = []
        for (subscription, wrap), group in self._groups.get(batch.audience, {}).items():
            frames = [frame for event in batch.events if (frame := event.frame(subscription))]
            if not frames:
                continue
            body = b"".join(frames)
            data = wrap(body)
            group.events += len(frames)
            group.bytes += len(body)
            group.last_key = batch.events[-1].key
            for subscriber in group.members:
                if not self._offer(subscriber, data, now):
                    over.append(subscriber)
        for subscriber in over:
            self._goodbye_slow(subscriber)
        if batch.checkpoint is not None:
            self._checkpoint = batch.checkpoint
            self._history.advance(batch.checkpoint)

    def catch_up(self, subscriber: Subscriber, data: bytes = b"") -> None:
        """Send `data`, then read on from the history until the socket is full or the subscriber is live."""
        for _ in range(CATCH_UP_BLOCKS):
            position = subscriber.position
            if subscriber.state in (State.CLOSING, State.GONE) or position is None:
                return
            if not self._history.covers(position):
                subscriber.state = State.REPLAYING
                self.send(subscriber, data)
                self.behind(subscriber)
                return
            subscriber.state = State.CATCHING_UP
            chunk = self._history.read(position.key, subscriber.subscription)
            if chunk is None:
                subscriber.seen = position.key
                self._join(subscriber, data)
                return
            subscriber.position = Position(chunk.end, chunk.end, exact=False)
            subscriber.events += chunk.events
            self.send(subscriber, data + chunk.data)
            if subscriber.waiting:
                return
            data = b""
        asyncio.get_running_loop().call_soon(self.catch_up, subscriber)

    def reset(self, subscriber: Subscriber, reset: Reset) -> None:
        """Tell a subscriber that its position cannot be resumed, and go on live."""
        self._join(subscriber, reset.frame(subscriber.subscription))

    def send(self, subscriber: Subscriber, data: bytes) -> None:
        """Write frames to one subscriber, or queue them behind what waits."""
        if data and not self._offer(subscriber, subscriber.connection.wrap(data), self._clock()):
            self._goodbye_slow(subscriber)
        subscriber.bytes += len(data)

    def drained(self, subscriber: Subscriber) -> None:
        """The connection has written what it was given."""
        if subscriber.state is State.GONE:
            return
        subscriber.waiting = False
        self._stuck.pop(subscriber, None)
        if subscriber.queue:
            self._write(subscriber, _take(subscriber), self._clock())
        elif subscriber.state is State.CLOSING:
            subscriber.connection.close()
        elif subscriber.state is State.CATCHING_UP:
            self.catch_up(subscriber)

    def remove(self, subscriber: Subscriber, reason: Bye = Bye.CLIENT_LEFT) -> None:
        """Forget a subscriber. Harmless when it is not in the list."""
        if subscriber.state is State.GONE:
            return
        self._leave_group(subscriber)
        subscriber.state = State.GONE
        subscriber.queue.clear()
        self._silent.pop(subscriber, None)
        self._stuck.pop(subscriber, None)
        if not self._silent:
            self._empty.set()
        log.info(
            "client left after %.1f s: %d events, %d bytes, %s%s",
            time.monotonic() - subscriber.joined, subscriber.events, subscriber.bytes, reason,
            ", resumed" if subscriber.resumed else "",
        )  # fmt: skip

    async def close(self, reason: Bye, timeout_seconds: float) -> None:
        """Say goodbye to everyone, and return when all have left or the time is over."""
        for subscriber in list(self._silent):
            self._goodbye(subscriber, reason)
        try:
            await asyncio.wait_for(self._empty.wait(), timeout_seconds)
        except TimeoutError:
            for subscriber in list(self._silent):
                subscriber.connection.close()
                self.remove(subscriber, Bye.WRITE_TIMEOUT)

    async def keep(self) -> None:
        """Send keep-alives, disconnect the stuck, forget the old: for ever, to be run as a watched task."""
        pause = min(1.0, self._settings.heartbeat_seconds / 4, self._settings.write_timeout_seconds / 4)
        while True:
            await asyncio.sleep(pause)
            self._history.expire()
            self._disconnect_stuck()
            while self._keep_alive(KEEP_ALIVES_PER_TURN):  # noqa: ASYNC110 - waits for nothing, gives turns
                await asyncio.sleep(0)

    # -- one subscriber ----------------------------------------------------------------------------

    def _offer(self, subscriber: Subscriber, data: bytes, now: float) -> bool:
        """Write to an idle connection, queue for a busy one. False: more waits than the bound allows."""
        if subscriber.waiting:
            subscriber.queue.append(data)
            subscriber.queued_bytes += len(data)
            return subscriber.queued_bytes <= self._settings.queue_max_bytes
        self._write(subscriber, data, now)
        return True

    def _write(self, subscriber: Subscriber, data: Buffer, now: float) -> None:
        self._silent[subscriber] = now
        self._silent.move_to_end(subscriber)
        rest = subscriber.connection.send(data)
        if rest is not None:
            subscriber.waiting = True
            self._stuck[subscriber] = now
            if rest:
                subscriber.queue.appendleft(rest)
                subscriber.queued_bytes += len(rest)

    def _join(self, subscriber: Subscriber, data: bytes) -> None:
        """Make a subscriber live, after `data` and the checkpoint it is at."""
        checkpoint = self._checkpoint
        if (
            checkpoint is not None
            and not subscriber.subscription.audience
            and checkpoint.key > subscriber.seen
        ):
            data += sse.checkpoint(checkpoint.id)
            subscriber.seen = checkpoint.key
        self.send(subscriber, data)
        if subscriber.state in (State.CLOSING, State.GONE):
            return
        subscriber.state = State.LIVE
        subscriber.position = None
        subscription, wrap = subscriber.subscription, subscriber.connection.wrap
        groups = self._groups.setdefault(subscription.audience, {})
        group = groups.setdefault((subscription, wrap), _Group())
        group.members[subscriber] = None
        subscriber.events -= group.events
        subscriber.bytes -= group.bytes

    def _leave_group(self, subscriber: Subscriber) -> None:
        if subscriber.state is not State.LIVE:
            return
        group = self._group(subscriber)
        del group.members[subscriber]
        subscriber.events += group.events
        subscriber.bytes += group.bytes
        subscriber.seen = max(subscriber.seen, group.last_key)
        if not group.members:
            subscription = subscriber.subscription
            groups = self._groups[subscription.audience]
            del groups[subscription, subscriber.connection.wrap]
            if not groups:
                del self._groups[subscription.audience]

    def _group(self, subscriber: Subscriber) -> _Group:
        subscription = subscriber.subscription
        return self._groups[subscription.audience][subscription, subscriber.connection.wrap]

    def _goodbye(self, subscriber: Subscriber, reason: Bye) -> None:
        """Queue the last words; the connection is closed when they are out."""
        if subscriber.state in (State.CLOSING, State.GONE):
            return
        self._leave_group(subscriber)
        subscriber.state = State.CLOSING
        # Without the jitter, everybody would come back in the same instant.
        retry = sse.retry(round(self._settings.retry_ms * random.uniform(0.5, 1.5)))
        bye = sse.frame(f'{{"reason":"{reason}"}}', event="bye")
        data = subscriber.connection.wrap(retry[:-1] + bye) + subscriber.connection.end
        self._offer(subscriber, data, self._clock())
        if not subscriber.waiting:
            subscriber.connection.close()

    def _goodbye_slow(self, subscriber: Subscriber) -> None:
        """Drop what waits for a subscriber over its bound; its id lets it resume from what it had."""
        if len(subscriber.queue) and isinstance(subscriber.queue[0], memoryview):
            # The rest of a write that has begun: without it the client would read half a chunk.
            subscriber.queue = deque([subscriber.queue[0]])
        else:
            subscriber.queue.clear()
        subscriber.queued_bytes = sum(map(len, subscriber.queue))
        self._goodbye(subscriber, Bye.SLOW_CONSUMER)

    def _reset_lost(self, subscriber: Subscriber) -> None:
        raise NotImplementedError("no replayer is attached")

    # -- all of them -------------------------------------------------------------------------------

    def _restart(self, checkpoint: Position | None) -> None:
        self._history.restart(checkpoint)
        self._checkpoint = checkpoint

    def _keep_alive(self, most: int) -> bool:
        """Write to those that were silent for long enough. True: there are more of them."""
        now = self._clock()
        due = now - self._settings.heartbeat_seconds
        for _ in range(most):
            subscriber, last = next(iter(self._silent.items()), (None, now))
            if subscriber is None or last > due:
                return False
            if subscriber.waiting or subscriber.state is State.CLOSING:
                self._silent[subscriber] = now
                self._silent.move_to_end(subscriber)
            else:
                self.send(subscriber, self._keep_alive_frame(subscriber))
        return True

    def _keep_alive_frame(self, subscriber: Subscriber) -> bytes:
        """A checkpoint, if it moves the client forward; else a comment."""
        checkpoint = self._checkpoint
        if subscriber.state is not State.LIVE or subscriber.subscription.audience or checkpoint is None:
            return sse.KEEP_ALIVE
        if checkpoint.key <= max(subscriber.seen, self._group(subscriber).last_key):
            return sse.KEEP_ALIVE
        subscriber.seen = checkpoint.key
        return sse.checkpoint(checkpoint.id)

    def _disconnect_stuck(self) -> None:
        due = self._clock() - self._settings.write_timeout_seconds
        for subscriber, last in list(self._stuck.items()):
            if last > due:
                return
            subscriber.connection.close()
            self.remove(subscriber, Bye.WRITE_TIMEOUT)


def _take(subscriber: Subscriber) -> Buffer:
    """The next piece of the queue, about `WRITE_BYTES`: small frames joined, large ones cut."""
    queue = subscriber.queue
    piece: Buffer = queue.popleft()
    if len(piece) < WRITE_BYTES and queue:
        parts = [piece]
        size = len(piece)
        while queue and size + len(queue[0]) <= WRITE_BYTES:
            part = queue.popleft()
            parts.append(part)
            size += len(part)
        piece = b"".join(parts)
    subscriber.queued_bytes -= len(piece)
    return piece
