"""A group's view of the log: the frames of a batch, and the frames that a client has missed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from brook.delivery.history import Chunk, History
from brook.event import DecodedEvent, Position
from brook.subscription import Subscription


class View(Protocol):
    """The log as one subscription sees it. No method awaits."""

    def frames(self, events: Sequence[DecodedEvent]) -> list[bytes]:
        """The frames of a batch for the live subscribers. Called once per batch."""

    def find(self, position: Position) -> str | None:
        """The key after which to `read` the events that follow a position; None if `read` lacks some of
        them.
        """

    def read(self, after: str) -> Chunk | None:
        """The next frames after a key; None if there are no more."""


class ChangeView:
    """Maps each change to a frame by itself, without state; reads the shared history."""

    __slots__ = ("_history", "_subscription")

    def __init__(self, subscription: Subscription, history: History) -> None:
        self._subscription = subscription
        self._history = history

    def frames(self, events: Sequence[DecodedEvent]) -> list[bytes]:
        subscription = self._subscription
        return [frame for event in events if (frame := event.frame(subscription))]

    def find(self, position: Position) -> str | None:
        return self._history.find(position)

    def read(self, after: str) -> Chunk | None:
        return self._history.read(after, self._subscription)
