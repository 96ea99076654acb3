"""One client: its state, its unsent bytes, and its position in the log.

Only the methods in this file change a subscriber. The states:

      CATCHING_UP <---> REPLAYING       reads from the history; waits for a replay of the log
           |                |
           +-----> LIVE <---+           is sent each batch when it is published
                    |                   (in live mode, LIVE returns to CATCHING_UP for a new snapshot)
    any state --> CLOSING --> GONE      is sent its goodbye; has left the list

A client that leaves, or is cut off, goes to GONE from any state.
"""

from __future__ import annotations

import enum
import logging
import time
from typing import TYPE_CHECKING

from brook.admission import Lease
from brook.delivery.connection import Buffer, Connection
from brook.event import Position
from brook.subscription import Bundle, Subscription, Wanted

if TYPE_CHECKING:  # the protocol of the readers speaks of subscribers
    from brook.delivery.live import Reader

log = logging.getLogger(__name__)

LEFT = "client left after %(seconds).1f s: %(events)d events, %(bytes)d bytes, %(reason)s"
LEFT_RESUMED = LEFT + ", resumed"

# Size of one write from the queue. Each completed write counts as progress, so a client that takes a large
# document slowly does not count as stuck.
WRITE_BYTES = 64 * 1024


class CloseReason(enum.StrEnum):
    """The reason why a connection ended: the word in the `bye` frame, the log and the docs."""

    SHUTDOWN = "shutdown"
    SLOW_CONSUMER = "slow-consumer"
    MAX_AGE = "max-age"
    TOKEN_EXPIRED = "token-expired"  # noqa: S105 - no password
    REFUSED = "refused"
    # Only in the log: the client can no longer be told.
    CLIENT_LEFT = "client-left"
    WRITE_TIMEOUT = "write-timeout"
    REPLAY_FAILED = "replay-failed"


class Origin(enum.StrEnum):
    """The place from which a client was brought up to the present."""

    NOW = "now"
    """It sent no position."""
    MEMORY = "memory"
    LOG = "log"
    SNAPSHOT = "snapshot"
    RESET = "reset"
    """Its position was lost."""


class State(enum.Enum):
    """The stage of a subscriber's life."""

    LIVE = "is sent every batch when it is published"
    CATCHING_UP = "reads from the history whenever its socket has room"
    REPLAYING = "waits for a replay of the log, or for a snapshot"
    CLOSING = "is being sent its goodbye and the bytes before it"
    GONE = "has left the list"


TRANSITIONS = {
    State.CATCHING_UP: (State.LIVE, State.REPLAYING, State.CLOSING, State.GONE),
    State.REPLAYING: (State.CATCHING_UP, State.LIVE, State.CLOSING, State.GONE),
    State.LIVE: (State.CATCHING_UP, State.CLOSING, State.GONE),
    State.CLOSING: (State.GONE,),
    State.GONE: (),
}


class Subscriber:
    """One client. Its unsent bytes are bounded by `queue_max_bytes`. No method awaits or raises."""

    __slots__ = (
        "__weakref__",
        "_queue",
        "_queue_max_bytes",
        "arriving",
        "bytes",
        "close_reason",
        "connection",
        "events",
        "joined",
        "lease",
        "origin",
        "position",
        "progress_at",
        "queued_bytes",
        "reader",
        "seen",
        "sent_at",
        "state",
        "subscription",
        "waiting",
    )

    def __init__(
        self,
        subscription: Wanted,
        connection: Connection,
        queue_max_bytes: int,
        lease: Lease | None = None,
    ) -> None:
        self.subscription = subscription
        self.connection = connection
        self.lease = lease
        """The time for which the client is let in; None for ever."""
        self.state = State.CATCHING_UP
        self.joined = time.monotonic()
        self.origin = Origin.NOW
        self.arriving = False
        """True until a client that sent a position has reached the present."""
        self.reader: Reader | None = None
        """Makes the bytes that a client of live mode needs before it is live; None without live mode."""
        self.close_reason = CloseReason.CLIENT_LEFT
        self.position: Position | None = None
        """Position up to which every event was offered. None while the subscriber is live."""
        self.seen = ""
        """The highest key among the ids sent before the subscriber went live."""
        self.sent_at = 0.0
        """Time of the last write to this subscriber alone (not through its fan-out)."""
        self.progress_at = 0.0
        """Time of the socket's last progress, while `waiting`."""
        self.waiting = False
        """True while the connection has unsent bytes."""
        self.queued_bytes = 0
        self.events = 0
        self.bytes = 0
        self._queue: list[Buffer] = []
        self._queue_max_bytes = queue_max_bytes

    @property
    def alone(self) -> Subscription:
        """The subscription of a client that has only one."""
        assert not isinstance(self.subscription, Bundle)
        return self.subscription

    @property
    def replayed(self) -> tuple[Subscription, ...]:
        """The subscriptions of which a replay of the log sends the changes."""
        return (self.alone,) if self.reader is None else self.reader.changes

    @property
    def resumed(self) -> bool:
        """True if the client sent a position."""
        return self.origin is not Origin.NOW

    @property
    def over_bound(self) -> bool:
        """True if the queue exceeds its bound."""
        return self.queued_bytes > self._queue_max_bytes

    def log_end(self) -> None:
        """Log the end of the connection, with its counts and its reason."""
        facts = {
            "seconds": round(time.monotonic() - self.joined, 3),
            "events": self.events,
            "bytes": self.bytes,
            "reason": self.close_reason,
            "resumed": self.resumed,
        }
        log.info(LEFT_RESUMED if self.resumed else LEFT, facts)

    # -- states ------------------------------------------------------------------------------------

    def come_back(self, origin: Origin = Origin.MEMORY) -> None:
        """Note that the client sent a position, and where it is read from; RESET if it is lost."""
        self.origin = origin
        self.arriving = True

    def resume(self, position: Position) -> None:
        """Start at a position that the client sent."""
        self.come_back()
        self.position = position

    def advance(self, position: Position, events: int = 0) -> None:
        """Move on to `position`, up to which every event was offered and `events` of them sent."""
        self.position = position
        self.events += events

    def wait_for_replay(self) -> None:
        """Leave the history, which does not cover the position."""
        self._become(State.REPLAYING)
        if self.origin is Origin.MEMORY:
            self.origin = Origin.SNAPSHOT if self.subscription.is_live else Origin.LOG

    def catch_up(self) -> None:
        """Return to the history, which covers the position now."""
        self._become(State.CATCHING_UP)

    def start_over(self) -> None:
        """Leave state LIVE for a new snapshot."""
        self._become(State.CATCHING_UP)

    def go_live(self) -> None:
        """Enter state LIVE, after the last frame of the history."""
        self._become(State.LIVE)
        self.arriving = False
        self.position = None

    def see(self, key: str) -> None:
        """Note the key of an id that is about to be sent."""
        self.seen = max(self.seen, key)

    def say_goodbye(self, reason: CloseReason, farewell: bytes, now: float) -> None:
        """Send the farewell. The connection is closed once it is written.

        A subscriber over its bound drops its queue first. The client can resume from the last id that it got.
        """
        if reason is CloseReason.SLOW_CONSUMER:
            self._drop_queue()
        self._become(State.CLOSING)
        self.close_reason = reason
        self._offer(self.connection.framing.wrap(farewell) + self.connection.framing.end, now)
        if not self.waiting:
            self.connection.close()

    def cut(self, reason: CloseReason) -> None:
        """Close the connection without a goodbye. A subscriber that is closing keeps its first reason."""
        if self.state is not State.CLOSING:
            self.close_reason = reason
        self.connection.abort()

    def leave(self) -> None:
        """Enter state GONE: the connection is closed."""
        self._become(State.GONE)
        self._queue.clear()
        self.queued_bytes = 0

    def _become(self, state: State) -> None:
        assert state in TRANSITIONS[self.state], f"{self.state.name} -> {state.name}"
        self.state = state

    # -- bytes -------------------------------------------------------------------------------------

    def offer(self, data: bytes, now: float) -> bool:
        """Write frames, or queue them behind unsent bytes. Returns False if the queue exceeds its bound."""
        self.bytes += len(data)
        self._offer(self.connection.framing.wrap(data), now)
        return not self.over_bound

    def enqueue(self, framed: Buffer) -> None:
        """Queue bytes, which other subscribers may share."""
        self._queue.append(framed)
        self.queued_bytes += len(framed)

    def write(self, framed: Buffer, now: float) -> None:
        """Write to a connection without unsent bytes, and keep the part that it does not take."""
        self.sent_at = now
        rest = self.connection.send(framed)
        if rest is not None:
            self.waiting = True
            self.progress_at = now
            if rest:
                self._queue.insert(0, rest)
                self.queued_bytes += len(rest)

    def drained(self, now: float) -> None:
        """Write from the queue, as the connection has room: until the queue is empty or the connection full.

        The connection of a closing subscriber is closed after its last byte.
        """
        self.waiting = False
        while self._queue and not self.waiting:
            self.write(self._take(), now)
        if self.state is State.CLOSING and not self.waiting:
            self.connection.close()

    def count(self, events: int, size: int) -> None:
        """Add to the counts. A fan-out counts for all of its subscribers together."""
        self.events += events
        self.bytes += size

    def _offer(self, framed: bytes, now: float) -> None:
        if self.waiting:
            self.enqueue(framed)
        else:
            self.write(framed, now)

    def _take(self) -> Buffer:
        """Remove the next piece from the queue: one entry, or as many as fit into `WRITE_BYTES`."""
        count = 1
        size = len(self._queue[0])
        while count < len(self._queue) and size + len(self._queue[count]) <= WRITE_BYTES:
            size += len(self._queue[count])
            count += 1
        piece = self._queue[0] if count == 1 else b"".join(self._queue[:count])
        del self._queue[:count]
        self.queued_bytes -= size
        return piece

    def _drop_queue(self) -> None:
        """Drop the queue, except the rest of a started write: the client must get whole chunks."""
        self._queue = [data for data in self._queue[:1] if isinstance(data, memoryview)]
        self.queued_bytes = sum(map(len, self._queue))
