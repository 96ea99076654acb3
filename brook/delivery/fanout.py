"""Subscribers that are sent the same bytes, and the loop that sends them."""

from __future__ import annotations

from brook import sse
from brook.delivery.subscriber import Buffer, Socket, Subscriber, Wrap
from brook.event import Position


class Members:
    """Those of a group who have the same framing, and so are sent the same bytes.

    What they were sent is noted once for all of them: a delivery leaves no trace but the write.
    """

    __slots__ = ("brought", "busy", "bytes", "events", "idle", "seen", "sent_at", "wrap")

    def __init__(self, wrap: Wrap, now: float, seen: str) -> None:
        self.wrap = wrap
        self.idle: dict[Subscriber, Socket] = {}
        """Those for whom nothing waits, each with its socket."""
        self.busy: dict[Subscriber, None] = {}
        """Those whose socket is full."""
        self.sent_at = now
        """When something was last sent to all."""
        self.seen = seen
        """The key up to which all were served: of the last batch with something for them, or checkpoint."""
        self.brought = seen
        """The highest key that one of them had seen when it came."""
        self.events = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self.idle) + len(self.busy)

    def add(self, subscriber: Subscriber) -> None:
        """Let a subscriber in. What was sent before does not count for it; `remove` adds up to then."""
        self.sort(subscriber)
        self.brought = max(self.brought, subscriber.seen)
        subscriber.events -= self.events
        subscriber.bytes -= self.bytes

    def remove(self, subscriber: Subscriber) -> None:
        """Let a subscriber go, and give it its counts."""
        self.idle.pop(subscriber, None)
        self.busy.pop(subscriber, None)
        subscriber.events += self.events
        subscriber.bytes += self.bytes

    def note(self, events: int, size: int, key: str) -> None:
        """All are about to be sent so many events, in so many bytes, the last one with this key."""
        self.events += events
        self.bytes += size
        self.seen = key

    def keep_alive(self, checkpoint: Position | None) -> bytes:
        """What to send to the idle after a silence: the checkpoint if it moves them forward, or a comment."""
        frame = sse.KEEP_ALIVE
        # Never back, also not the one that came with a later place.
        if checkpoint is not None and checkpoint.key > self.seen and checkpoint.key >= self.brought:
            frame = sse.checkpoint(checkpoint.id)
            self.seen = checkpoint.key
        self.bytes += len(frame)
        for subscriber in self.busy:
            subscriber.bytes -= len(frame)
        return frame

    def send(self, data: bytes, now: float) -> list[tuple[Subscriber, Buffer]]:
        """Write the same bytes to each of the idle: here is where a server spends its time.

        Returns those whose sockets have not taken it whole, each with the rest. They are busy from
        now on: see `sort`.
        """
        self.sent_at = now
        size = len(data)
        unfinished: list[tuple[int, int]] = []
        # Only the sockets are touched: with ten thousand, to fetch each one's subscriber and a bound method
        # from memory, too, made a delivery a twelfth dearer.
        for place, socket in enumerate(self.idle.values()):
            try:
                sent = socket.send(data)
            except OSError:
                sent = 0  # full, or closed: who writes the rest will see which
            if sent != size:
                unfinished.append((place, sent))
        subscribers = list(self.idle) if unfinished else []
        return [(subscribers[place], memoryview(data)[sent:]) for place, sent in unfinished]

    def queue(self, data: bytes, most: int) -> list[Subscriber]:
        """Queue the same bytes for each of the busy. Returns those for whom more than `most` bytes wait."""
        for subscriber in self.busy:
            subscriber.put(data)
        return [subscriber for subscriber in self.busy if subscriber.queued_bytes > most]

    def sort(self, subscriber: Subscriber) -> None:
        """Put a subscriber among the idle or the busy, as it has become."""
        if subscriber.waiting:
            self.idle.pop(subscriber, None)
            self.busy[subscriber] = None
        else:
            self.busy.pop(subscriber, None)
            self.idle[subscriber] = subscriber.connection.socket
