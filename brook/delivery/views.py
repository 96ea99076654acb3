"""A group's view of the log: which frames a batch has for it, and which a returning client missed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from brook.delivery.history import Chunk, History
from brook.event import DecodedEvent, Position
from brook.subscription import Subscription


class View(Protocol):
    """The log as one subscription sees it. Never awaits."""

    def frames(self, events: Sequence[DecodedEvent]) -> list[bytes]:
        """The frames for the live subscribers, once a batch."""

    def covers(self, position: Position) -> bool:
        """True if `read` can serve everything after a position."""

    def read(self, after: str) -> Chunk | None:
        """The next frames after a key; None if there are no more."""


class ChangeView:
    """Each change for itself: a pure function of the events, over the shared history."""

    __slots__ = ("_history", "_subscription")

    def __init__(self, subscription: Subscription, history: History) -> None:
        self._subscription = subscription
        self._history = history

    def frames(self, events: Sequence[DecodedEvent]) -> list[bytes]:
        subscription = self._subscription
        return [frame for event in events if (frame := event.frame(subscription))]

    def covers(self, position: Position) -> bool:
        return self._history.covers(position)

    def read(self, after: str) -> Chunk | None:
        return self._history.read(after, self._subscription)
