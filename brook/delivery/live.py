"""The protocol between the subscriber list and live mode: result sets and bundles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from brook.delivery.statistics import LiveStatistics
from brook.delivery.subscriber import Subscriber
from brook.errors import ClientError
from brook.event import Batch, DecodedEvent, Position, Reset
from brook.subscription import Subscription


@dataclass(frozen=True, slots=True)
class Step:
    """The next bytes for a client that is not live yet."""

    data: bytes | None
    """None if the client has to wait; the reader calls back when there is more."""
    position: Position | None = None
    """The position up to which the client has everything, and goes live; None if there is more to send."""
    behind: bool = False
    """True if the client needs changes that only a replay of the log has."""


class Reader(Protocol):
    """Makes the bytes that one client needs before it is live. No method awaits."""

    @property
    def changes(self) -> tuple[Subscription, ...]:
        """The subscriptions that lack past changes, which the history or a replay sends."""

    def next(self) -> Step:
        """The next step."""

    def start_over(self, broken: Sequence[Subscription]) -> None:
        """Begin with new snapshots of some result sets. The client was live until now."""

    def reset(self, reset: Reset) -> None:
        """Go on after a gap in the log."""

    def replayed(self, end: Position | None, size: int) -> bytes:
        """The bytes to send after a part of a replay that has `size` bytes.

        `end` is the position at its end; None if more events of the same cluster time may follow.
        """

    def close(self) -> None:
        """Forget the client."""


class Update(Protocol):
    """The outcome of a batch for the clients of one result set."""

    @property
    def subscription(self) -> Subscription:
        """The subscription of the result set."""

    @property
    def position(self) -> Position:
        """The end of the batch."""

    def frame(self, tag: str = "") -> bytes:
        """The event, alone or for a bundle. Empty if the clients need a new snapshot."""


@dataclass(frozen=True, slots=True)
class Callbacks:
    """The subscriber list, as live mode sees it."""

    checkpoint: Callable[[], Position | None]
    """Returns the list's checkpoint."""
    ready: Callable[[Subscriber], None]
    """Tells that there is more to send to a client that waits."""
    failed: Callable[[Subscriber, Exception], None]
    """Tells that a client cannot be served."""
    late: Callable[[Callable[[], Update | None]], None]
    """Makes an update that has waited for its pace, and sends it."""


class LiveMode(Protocol):
    """The result sets, and the readers of clients. `ResultSets` in `brook/live` implements it. No method
    awaits.
    """

    def attach(self, callbacks: Callbacks) -> None:
        """Set the callbacks."""

    def reader(self, subscriber: Subscriber, since: Position | None, fresh: frozenset[str]) -> Reader:
        """The reader for a client that joins. The parts of a bundle with a `fresh` tag begin now."""

    def publish(self, batch: Batch, decoded: Sequence[DecodedEvent]) -> Iterator[Update | None]:
        """Apply a batch to each result set. Yields None after one whose clients are sent nothing."""

    def refusal(self, error: ClientError) -> bytes:
        """The farewell to a client whose result set cannot be served."""

    def commit(self, position: Position) -> bytes:
        """The frame that ends a batch for a bundle. It has the position as its id."""

    def end(self, batch: Batch) -> Position | None:
        """The position at the end of a batch; None if it is not known."""

    def expire(self) -> None:
        """Drop the result sets without clients, after `live_linger_seconds`."""

    def skip(self, batch: Batch) -> None:
        """Forget the content of every result set: a batch was passed over."""

    def statistics(self) -> LiveStatistics:
        """Count the result sets and their documents."""

    def __bool__(self) -> bool:
        """True if there is a result set."""
