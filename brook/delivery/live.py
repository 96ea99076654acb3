"""The protocol between the subscriber list and the result sets of live mode."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from brook import sse
from brook.delivery.subscriber import Subscriber
from brook.errors import ClientError
from brook.event import Batch, DecodedEvent, Position
from brook.subscription import Subscription

# Reconnection time after a refusal that will not pass by itself.
REFUSED_RETRY_MS = 60_000


def refusal(error: ClientError) -> bytes:
    """The farewell to a client whose result set cannot be served."""
    data = json.dumps({"code": error.code, "detail": str(error)})
    return sse.farewell("problem", data, REFUSED_RETRY_MS)


@dataclass(frozen=True, slots=True)
class Step:
    """The next bytes for a client that is not live yet."""

    data: bytes | None
    """None if the client has to wait; the result sets call back when there is more."""
    position: Position | None = None
    """The position up to which the client has everything now. It goes live; None if there is more to send."""


class LiveSets(Protocol):
    """The result sets. `ResultSets` in `brook/live` implements it. No method awaits."""

    def attach(
        self,
        checkpoint: Callable[[], Position | None],
        ready: Callable[[Subscriber], None],
        failed: Callable[[Subscriber, Exception], None],
    ) -> None:
        """Set the callbacks: the list's checkpoint; a client that can be sent more; one that cannot be
        served.
        """

    def next(self, subscriber: Subscriber) -> Step:
        """The next step of a client that is not live yet."""

    def leave(self, subscriber: Subscriber) -> None:
        """Forget a client that has left the list."""

    def publish(
        self, batch: Batch, decoded: Sequence[DecodedEvent]
    ) -> Iterator[tuple[Subscription, bytes, Position]]:
        """Apply a batch. Yields each subscription with a frame for its live clients.

        An empty frame means that its clients need a new snapshot.
        """

    def expire(self) -> None:
        """Drop the sets that have had no client for a while."""

    def forget(self) -> None:
        """Forget the content of every set: batches were passed over."""

    def __bool__(self) -> bool:
        """True if there is a result set."""
