"""The protocols between the subscriber list, the replay of the log, and observers."""

from __future__ import annotations

from typing import Protocol

from brook.delivery.subscriber import CloseReason, Subscriber
from brook.event import Reset


class Delivery(Protocol):
    """The operations on a subscriber that a catch-up has taken. `SubscriberList` implements it."""

    def send(self, subscriber: Subscriber, data: bytes) -> None:
        """Write frames, or queue them. A subscriber over its bound is sent a goodbye and forgotten."""

    def take_back(self, subscriber: Subscriber, reset: Reset | None = None) -> None:
        """Take a subscriber back. It reads on from the history, or goes live after a reset."""

    def cut(self, subscriber: Subscriber, reason: CloseReason) -> None:
        """Close a connection without a goodbye. The client reconnects with its last id."""


class CatchUp(Protocol):
    """Brings a subscriber from its position up to the history. `Replayer` implements it."""

    def take(self, subscriber: Subscriber, delivery: Delivery) -> None:
        """Take a subscriber in state REPLAYING. Keep it until `take_back` or `forget`. Never awaits."""

    def forget(self, subscriber: Subscriber) -> None:
        """Forget a subscriber that has left. Does nothing if it was given back already."""


class Observer(Protocol):
    """Is called as subscribers join, reach the present and leave. Must not raise."""

    def joined(self, subscriber: Subscriber) -> None:
        """A subscriber was added to the list."""

    def resumed(self, subscriber: Subscriber) -> None:
        """A subscriber that sent a position has reached the present; its `origin` says from where."""

    def left(self, subscriber: Subscriber) -> None:
        """A subscriber has left; `close_reason` has the reason."""
