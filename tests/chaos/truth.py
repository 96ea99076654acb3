"""The operations that MongoDB's own log holds, majority-committed, in its order."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

INSERT, UPDATE, DELETE = "insert", "update", "delete"


def cluster_time(seconds: int, increment: int) -> int:
    return seconds << 32 | increment


def seconds_of(time: int) -> int:
    return time >> 32


@dataclass(frozen=True, slots=True)
class Operation:
    """One change of one document. `stamp` is the number that it wrote; a delete has 0."""

    time: int
    kind: str
    key: int
    stamp: int
    writer: int


class Truth:
    """A run of operations, and where each is."""

    def __init__(self, operations: Iterable[Operation], whole: Truth | None = None) -> None:
        self.operations = list(operations)
        self.times = [each.time for each in self.operations]
        whole = whole or self
        self.owner = whole.owner if whole is not self else self._owners()
        """The document that each stamp was written to."""
        self.deleted = whole.deleted if whole is not self else self._deleted()

    def _owners(self) -> dict[int, int]:
        return {each.stamp: each.key for each in self.operations if each.stamp}

    def _deleted(self) -> set[int]:
        return {each.key for each in self.operations if each.kind == DELETE}

    def only(self, accepts: Callable[[Operation], bool]) -> Truth:
        """The operations that pass; what became of their documents is still known."""
        return Truth((each for each in self.operations if accepts(each)), self)

    def first_after(self, time: int) -> int:
        """The place of the first operation after a time."""
        return bisect_right(self.times, time)

    def first_at(self, time: int) -> int:
        """The place of the first operation at a time or after it."""
        return bisect_left(self.times, time)

    def states(self) -> Iterator[tuple[int, dict[int, tuple[int, int]]]]:
        """Each time, and the stamp and writer of each document then. The same object, changed."""
        held: dict[int, tuple[int, int]] = {}
        for place, each in enumerate(self.operations):
            if each.kind == DELETE:
                held.pop(each.key, None)
            else:
                held[each.key] = (each.stamp, each.writer)
            if place + 1 == len(self.times) or self.times[place + 1] != each.time:
                yield each.time, held


@dataclass(frozen=True, slots=True)
class LostLog:
    """A moment in which the log had forgotten everything before `oldest`."""

    oldest: int
