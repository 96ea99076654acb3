"""Counts since the start: connections, disconnects, resumes, and the events and bytes that were sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from brook.delivery.groups import Group
from brook.delivery.subscriber import CloseReason, Origin, Subscriber


class Tally:
    """Observes a subscriber list. Nothing is counted per delivery: each client brings its own counts when it
    leaves, and `delivered` adds the counts of the clients that are here.
    """

    def __init__(self) -> None:
        self.connections = 0
        self.disconnects: Counter[CloseReason] = Counter()
        self.resumes: Counter[Origin] = Counter()
        self._events = 0
        self._bytes = 0

    def joined(self, subscriber: Subscriber) -> None:
        self.connections += 1

    def resumed(self, subscriber: Subscriber) -> None:
        self.resumes[subscriber.origin] += 1

    def left(self, subscriber: Subscriber) -> None:
        self.disconnects[subscriber.close_reason] += 1
        self._events += subscriber.events
        self._bytes += subscriber.bytes

    def delivered(self, subscribers: Iterable[Subscriber], groups: Iterable[Group]) -> tuple[int, int]:
        """Number of events and bytes sent since the start, to all clients together.

        Takes time in proportion to the number of subscribers.
        """
        events, size = self._events, self._bytes
        for subscriber in subscribers:
            events += subscriber.events
            size += subscriber.bytes
        for group in groups:
            for fanout in group.fanouts.values():
                events += len(fanout) * fanout.events
                size += len(fanout) * fanout.bytes
        return events, size
