"""One client: what it asked for, the way to it, and what it has not been sent yet."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from typing import Protocol

from brook.event import Position
from brook.subscription import Subscription

Buffer = bytes | memoryview
Wrap = Callable[[bytes], bytes]

# How much of its queue a slow subscriber is given at a time: each write that completes counts as
# progress, so one that takes a large document slowly is not mistaken for one that is stuck.
WRITE_BYTES = 64 * 1024


class Bye(enum.StrEnum):
    """Why a connection ends: the word in the frame, the log and the docs."""

    SHUTDOWN = "shutdown"
    SLOW_CONSUMER = "slow-consumer"
    CLIENT_LEFT = "client-left"
    WRITE_TIMEOUT = "write-timeout"


class Socket(Protocol):
    """The system's end of a connection."""

    def send(self, data: Buffer, /) -> int:
        """Write, without waiting, what it takes: so many bytes. Raises OSError when it takes none."""


class Connection(Protocol):
    """The way out, as a handler gives it to its subscriber. No method waits, and none raises."""

    @property
    def wrap(self) -> Wrap:
        """Frames a piece of the body. Subscribers with the same function share the framed bytes."""

    @property
    def end(self) -> bytes:
        """What ends the body."""

    @property
    def socket(self) -> Socket:
        """The shortest way: only for one who was sent something before, and for whom nothing waits."""

    def send(self, data: Buffer) -> Buffer | None:
        """Write what the socket takes. None: all of it. Otherwise the rest, which the caller keeps
        and sends once `SubscriberList.drained` was called.
        """

    def close(self) -> None:
        """Give the socket back, once everything is sent."""

    def abort(self) -> None:
        """Give the socket back at once; what it was given and has not sent is lost."""


class State(enum.Enum):
    """Where a subscriber stands."""

    LIVE = "is sent every batch as it is published"
    CATCHING_UP = "reads on from the history whenever its socket has room"
    REPLAYING = "is behind the history; the replayer has it"
    CLOSING = "has been said goodbye to; its last bytes are going out"
    GONE = "has left the list"


class Subscriber:
    """One client. Only the list, its members and the replayer touch it. What waits is bounded by
    `queue_max_bytes`.
    """

    __slots__ = (
        "__weakref__",
        "bytes",
        "connection",
        "events",
        "joined",
        "leaving",
        "position",
        "queue",
        "queued_bytes",
        "resumed",
        "seen",
        "sent_at",
        "state",
        "subscription",
        "waiting",
    )

    def __init__(self, subscription: Subscription, connection: Connection) -> None:
        self.subscription = subscription
        self.connection = connection
        self.state = State.CATCHING_UP
        self.joined = time.monotonic()
        self.resumed = False
        self.leaving = Bye.CLIENT_LEFT
        """Why it goes, once it does."""
        self.position: Position | None = None
        """Up to where it has been offered everything; only kept while it is not live."""
        self.seen = ""
        """The highest key among the ids it was sent until it was live."""
        self.sent_at = 0.0
        """When it was last written to by itself: while it waits for a replay, its last traffic."""
        self.waiting = False
        """The connection has not yet written what it was given."""
        self.queue: list[Buffer] = []
        self.queued_bytes = 0
        self.events = 0
        self.bytes = 0

    def put(self, data: Buffer) -> None:
        """Queue frames behind what waits."""
        self.queue.append(data)
        self.queued_bytes += len(data)

    def put_back(self, rest: Buffer) -> None:
        """Queue the rest of a write that the socket did not take whole."""
        self.queue.insert(0, rest)
        self.queued_bytes += len(rest)

    def take(self) -> Buffer:
        """The next piece of the queue: one entry, or as many as fit into `WRITE_BYTES`."""
        count = 1
        size = len(self.queue[0])
        while count < len(self.queue) and size + len(self.queue[count]) <= WRITE_BYTES:
            size += len(self.queue[count])
            count += 1
        piece = self.queue[0] if count == 1 else b"".join(self.queue[:count])
        del self.queue[:count]
        self.queued_bytes -= size
        return piece

    def drop_queue(self) -> None:
        """Forget what waits, but for the rest of a write: without it, the client would get half a chunk."""
        rest: list[Buffer] = [data for data in self.queue[:1] if isinstance(data, memoryview)]
        self.queue = rest
        self.queued_bytes = sum(map(len, rest))
