"""Subscribers that are sent the same bytes, and the loop that sends them."""

from __future__ import annotations

from brook import sse
from brook.delivery.connection import Buffer, Framing, Socket
from brook.delivery.subscriber import Subscriber
from brook.event import Position


class Fanout:
    """The subscribers of a group that have equal framings.

    The fan-out counts events and bytes for all of them: a delivery does no work per subscriber but the write.
    """

    __slots__ = ("_highest_joined", "busy", "bytes", "events", "framing", "idle", "seen", "sent_at")

    def __init__(self, framing: Framing, now: float, seen: str) -> None:
        self.framing = framing
        self.idle: dict[Subscriber, Socket] = {}
        """Subscribers with an empty queue, each with its socket."""
        self.busy: dict[Subscriber, None] = {}
        """Subscribers with a full socket."""
        self.sent_at = now
        """Time of the last send to all."""
        self.seen = seen
        """Key of the last event or checkpoint sent to all."""
        self._highest_joined = seen
        """The highest key that a subscriber had seen when it joined."""
        self.events = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self.idle) + len(self.busy)

    def add(self, subscriber: Subscriber) -> None:
        """Add a subscriber. Subtracts the counts so far; `remove` adds the counts at that time."""
        self.refile(subscriber)
        self._highest_joined = max(self._highest_joined, subscriber.seen)
        subscriber.count(-self.events, -self.bytes)

    def remove(self, subscriber: Subscriber) -> None:
        """Remove a subscriber, and add its share of the counts to its own."""
        self.idle.pop(subscriber, None)
        self.busy.pop(subscriber, None)
        subscriber.count(self.events, self.bytes)

    def refile(self, subscriber: Subscriber) -> None:
        """Put a subscriber among the idle or the busy ones, by its `waiting`."""
        if subscriber.waiting:
            self.idle.pop(subscriber, None)
            self.busy[subscriber] = None
        else:
            self.busy.pop(subscriber, None)
            self.idle[subscriber] = subscriber.connection.socket

    def note(self, events: int, key: str) -> None:
        """Count events that are about to be sent to all; `key` is the key of the last one."""
        self.events += events
        self.seen = key

    def moves(self, checkpoint: Position | None) -> bool:
        """True if a checkpoint moves every subscriber forward, including one that joined at a later
        position.
        """
        return (
            checkpoint is not None and checkpoint.key > self.seen and checkpoint.key >= self._highest_joined
        )

    def keep_alive(self, checkpoint: Position | None) -> bytes:
        """The keep-alive for the idle: the checkpoint if it moves them forward, else a comment."""
        frame = sse.KEEP_ALIVE
        if checkpoint is not None and self.moves(checkpoint):
            frame = sse.checkpoint(checkpoint.id)
            self.seen = checkpoint.key
        self.bytes += len(frame)
        for subscriber in self.busy:
            subscriber.count(0, -len(frame))
        return frame

    def send(self, data: bytes, now: float) -> list[tuple[Subscriber, Buffer]]:
        """Write the same bytes to each idle subscriber. A server spends most of its time here.

        Returns the subscribers with unsent bytes, each with those bytes. The caller must `refile` them.
        """
        self.sent_at = now
        size = len(data)
        unfinished: list[tuple[int, int]] = []
        # Touch only the sockets. Reading each subscriber and a bound method from memory as well made a
        # delivery to ten thousand clients 8 % slower.
        for place, socket in enumerate(self.idle.values()):
            try:
                sent = socket.send(data)
            except OSError:
                sent = 0  # full or closed: writing the rest will show which
            if sent != size:
                unfinished.append((place, sent))
        subscribers = list(self.idle) if unfinished else []
        return [(subscribers[place], memoryview(data)[sent:]) for place, sent in unfinished]

    def queue(self, data: bytes) -> list[Subscriber]:
        """Queue the same bytes for each busy subscriber. Returns the subscribers over their bound."""
        for subscriber in self.busy:
            subscriber.enqueue(data)
        return [subscriber for subscriber in self.busy if subscriber.over_bound]
