"""The protocols around a subscriber that cannot be served from memory, or whose coming and going matters."""

from __future__ import annotations

from typing import Protocol

from brook.delivery.subscriber import CloseReason, Subscriber
from brook.event import Reset


class Delivery(Protocol):
    """What a catch-up may do with a subscriber that it took. `SubscriberList` is one."""

    def send(self, subscriber: Subscriber, data: bytes) -> None:
        """Write frames, or queue them. A subscriber over its bound is said goodbye to, and forgotten."""

    def take_back(self, subscriber: Subscriber, reset: Reset | None = None) -> None:
        """Take a subscriber back: to read on from the history, or to go live after a reset."""

    def cut(self, subscriber: Subscriber, reason: CloseReason) -> None:
        """Close a connection without a word; the client will come back with its last id."""


class CatchUp(Protocol):
    """Brings a subscriber from its position up to the history. `Replayer` is one."""

    def take(self, subscriber: Subscriber, delivery: Delivery) -> None:
        """Take a subscriber in state REPLAYING, until it is given back or forgotten. Never awaits."""

    def forget(self, subscriber: Subscriber) -> None:
        """Forget a subscriber that has left. Harmless if it was given back already."""


class Observer(Protocol):
    """Is told of subscribers that come and go, once each. Must not raise."""

    def joined(self, subscriber: Subscriber) -> None:
        """A subscriber was added to the list."""

    def left(self, subscriber: Subscriber) -> None:
        """A subscriber has left; `close_reason` says why."""
