"""One client: its state, the bytes that it has not been sent yet, and its place in the log.

Everything that changes a subscriber lives in this file. The states:

      CATCHING_UP <---> REPLAYING       reads from the history; waits for a replay of the log
           |                |
           +-----> LIVE <---+           is sent each batch as it is published
                    |
    any state --> CLOSING --> GONE      was said goodbye to; has left the list

A client that leaves, or is cut off, goes to GONE from any state.
"""

from __future__ import annotations

import enum
import time

from brook.delivery.connection import Buffer, Connection
from brook.event import Position
from brook.subscription import Subscription

# Size of one write from the queue. Each completed write counts as progress, so a client that takes a large
# document slowly is not mistaken for one that is stuck.
WRITE_BYTES = 64 * 1024


class CloseReason(enum.StrEnum):
    """Why a connection ended: the word in the `bye` frame, the log and the docs."""

    SHUTDOWN = "shutdown"
    SLOW_CONSUMER = "slow-consumer"
    # Only in the log: nobody is left to be told.
    CLIENT_LEFT = "client-left"
    WRITE_TIMEOUT = "write-timeout"
    REPLAY_FAILED = "replay-failed"


class State(enum.Enum):
    """The stage of a subscriber's life."""

    LIVE = "is sent every batch as it is published"
    CATCHING_UP = "reads from the history whenever its socket has room"
    REPLAYING = "is behind the history and waits for a replay of the log"
    CLOSING = "was said goodbye to; its last bytes are going out"
    GONE = "has left the list"


TRANSITIONS = {
    State.CATCHING_UP: (State.LIVE, State.REPLAYING, State.CLOSING, State.GONE),
    State.REPLAYING: (State.CATCHING_UP, State.LIVE, State.CLOSING, State.GONE),
    State.LIVE: (State.CLOSING, State.GONE),
    State.CLOSING: (State.GONE,),
    State.GONE: (),
}


class Subscriber:
    """One client. Its unsent bytes are bounded by `queue_max_bytes`. No method awaits or raises."""

    __slots__ = (
        "__weakref__",
        "_queue",
        "_queue_max_bytes",
        "bytes",
        "close_reason",
        "connection",
        "events",
        "joined",
        "position",
        "progress_at",
        "queued_bytes",
        "resumed",
        "seen",
        "sent_at",
        "state",
        "subscription",
        "waiting",
    )

    def __init__(self, subscription: Subscription, connection: Connection, queue_max_bytes: int) -> None:
        self.subscription = subscription
        self.connection = connection
        self.state = State.CATCHING_UP
        self.joined = time.monotonic()
        self.resumed = False
        self.close_reason = CloseReason.CLIENT_LEFT
        self.position: Position | None = None
        """Everything up to here was offered. Kept only while the subscriber is not live."""
        self.seen = ""
        """The highest key among the ids that it was sent before it went live."""
        self.sent_at = 0.0
        """Time of the last write to this subscriber alone (not through its fan-out)."""
        self.progress_at = 0.0
        """Time of the socket's last progress, while `waiting`."""
        self.waiting = False
        """The connection has not written everything that it was given."""
        self.queued_bytes = 0
        self.events = 0
        self.bytes = 0
        self._queue: list[Buffer] = []
        self._queue_max_bytes = queue_max_bytes

    @property
    def over_bound(self) -> bool:
        """True if more bytes wait than the bound allows."""
        return self.queued_bytes > self._queue_max_bytes

    # -- states ------------------------------------------------------------------------------------

    def resume(self, position: Position) -> None:
        """Start at a position that the client brought back."""
        self.resumed = True
        self.position = position

    def advance(self, position: Position, events: int = 0) -> None:
        """Move on: everything up to `position` was offered, `events` of them sent."""
        self.position = position
        self.events += events

    def wait_for_replay(self) -> None:
        """Leave the history, which does not cover the position."""
        self._become(State.REPLAYING)

    def catch_up(self) -> None:
        """Return to the history, which covers the position now."""
        self._become(State.CATCHING_UP)

    def go_live(self) -> None:
        """Begin to be sent batches as they are published."""
        self._become(State.LIVE)
        self.position = None

    def see(self, key: str) -> None:
        """Note the key of an id that is about to be sent."""
        self.seen = max(self.seen, key)

    def say_goodbye(self, reason: CloseReason, farewell: bytes, now: float) -> None:
        """Send the last words. The connection is closed once they are written.

        A subscriber over its bound drops its queue first; its id lets it resume from what it had.
        """
        if reason is CloseReason.SLOW_CONSUMER:
            self._drop_queue()
        self._become(State.CLOSING)
        self.close_reason = reason
        self._offer(self.connection.framing.wrap(farewell) + self.connection.framing.end, now)
        if not self.waiting:
            self.connection.close()

    def cut(self, reason: CloseReason) -> None:
        """Close a connection without a word. The first reason stays: a slow client ends as a stuck one."""
        if self.state is not State.CLOSING:
            self.close_reason = reason
        self.connection.abort()

    def leave(self) -> None:
        """End: the connection is closed."""
        self._become(State.GONE)
        self._queue.clear()
        self.queued_bytes = 0

    def _become(self, state: State) -> None:
        assert state in TRANSITIONS[self.state], f"{self.state.name} -> {state.name}"
        self.state = state

    # -- bytes -------------------------------------------------------------------------------------

    def offer(self, data: bytes, now: float) -> bool:
        """Write frames, or queue them behind what waits. Returns False if that exceeds the bound."""
        self.bytes += len(data)
        self._offer(self.connection.framing.wrap(data), now)
        return not self.over_bound

    def enqueue(self, framed: Buffer) -> None:
        """Queue bytes that are shared with others, behind what waits."""
        self._queue.append(framed)
        self.queued_bytes += len(framed)

    def write(self, framed: Buffer, now: float) -> None:
        """Write to a connection that has nothing unsent, and keep what it does not take."""
        self.sent_at = now
        rest = self.connection.send(framed)
        if rest is not None:
            self.waiting = True
            self.progress_at = now
            if rest:
                self._queue.insert(0, rest)
                self.queued_bytes += len(rest)

    def drained(self, now: float) -> None:
        """The connection has written what it was given: give it more, until it is full or the queue empty.

        The connection of a closing subscriber is closed after its last byte.
        """
        self.waiting = False
        while self._queue and not self.waiting:
            self.write(self._take(), now)
        if self.state is State.CLOSING and not self.waiting:
            self.connection.close()

    def count(self, events: int, size: int) -> None:
        """Add to the figures for the log. A fan-out counts for all of its subscribers together."""
        self.events += events
        self.bytes += size

    def _offer(self, framed: bytes, now: float) -> None:
        if self.waiting:
            self.enqueue(framed)
        else:
            self.write(framed, now)

    def _take(self) -> Buffer:
        """Remove the next piece of the queue: one entry, or as many as fit into `WRITE_BYTES`."""
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
        """Drop what waits, except the rest of a write: without it, the client would get half a chunk."""
        self._queue = [data for data in self._queue[:1] if isinstance(data, memoryview)]
        self.queued_bytes = sum(map(len, self._queue))
