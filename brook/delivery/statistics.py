"""The subscriber list at one moment, as numbers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from brook.delivery.groups import Groups
from brook.delivery.subscriber import State, Subscriber


@dataclass(frozen=True, slots=True)
class LiveStatistics:
    """The result sets of live mode at one moment, as numbers."""

    result_sets: int = 0
    documents: int = 0
    """Members of all result sets."""
    reads: int = 0
    """Snapshots that are being read, or wait for a cursor."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """The list at one moment, as numbers."""

    subscribers: int
    live: int
    replaying: int
    """Subscribers that wait for a replay of the log, or for a snapshot."""
    busy: int
    """Subscribers with a full socket."""
    queued_bytes: int
    """Bytes in the queues of busy subscribers."""
    subscriptions: int
    """Distinct subscriptions with a live subscriber."""
    index_entries: int
    """Entries of the index over these subscriptions."""

    @classmethod
    def of(cls, subscribers: Collection[Subscriber], groups: Groups) -> Statistics:
        """Count. Takes time in proportion to the number of subscribers."""
        states = [subscriber.state for subscriber in subscribers]
        return cls(
            subscribers=len(subscribers),
            live=states.count(State.LIVE),
            replaying=states.count(State.REPLAYING),
            busy=sum(subscriber.waiting for subscriber in subscribers),
            queued_bytes=sum(subscriber.queued_bytes for subscriber in subscribers),
            subscriptions=len(groups),
            index_entries=groups.index_entries,
        )
