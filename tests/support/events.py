"""Numbered events, positions and a clock for tests."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from brook.event import Event, Position
from brook.subscription import Subscription


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True, slots=True, eq=False)
class Counted(Event):
    """An event that counts how often it is rendered."""

    rendered: list[Subscription] = field(default_factory=list)

    @property
    def renders(self) -> int:
        return len(self.rendered)

    def render(self, subscription: Subscription) -> bytes:
        self.rendered.append(subscription)
        return Event.render(self, subscription)


@contextmanager
def traced_memory() -> Iterator[Callable[[], int]]:
    """Says how much more memory is in use than at the beginning."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def key(number: int) -> str:
    return f"{number:06d}"


def at(number: int) -> Position:
    """The position of an event."""
    return Position(key(number), key(number))


def after(number: int) -> Position:
    """A moment after an event and before the next."""
    return Position(key(number) + "~", f"t{number}", exact=False)


def events(first: int, last: int, size: int = 10) -> list[Counted]:
    return [Counted(key(number), "x" * size) for number in range(first, last + 1)]
