"""The record of one client, over all of its connections: numbers only, for millions of events."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field


@dataclass(slots=True)
class Gap:
    """A `reset`, or a new snapshot with a reason: where in the record it came, and when."""

    place: int
    reason: str
    since: int
    """The cluster time of the position that the client had; 0 if it is not known."""
    clock: float
    """The wall clock at which it came. Nothing that was written later may be missing."""


@dataclass(slots=True)
class ChangesRecord:
    """A client of changes. The arrays are parallel: an event's cluster time, key and stamp."""

    start: int | None = None
    """The checkpoint of the first opening: everything after it has to come."""
    times: array[int] = field(default_factory=lambda: array("Q"))
    keys: array[int] = field(default_factory=lambda: array("l"))
    stamps: array[int] = field(default_factory=lambda: array("Q"))
    gaps: list[Gap] = field(default_factory=list)

    def add(self, time: int, key: int, stamp: int) -> None:
        self.times.append(time)
        self.keys.append(key)
        self.stamps.append(stamp)

    def __len__(self) -> int:
        return len(self.times)


@dataclass(slots=True)
class LiveRecord:
    """A client of a live query: the digest of what it held after each event, and the event's time."""

    start: int | None = None
    times: array[int] = field(default_factory=lambda: array("Q"))
    digests: array[int] = field(default_factory=lambda: array("Q"))
    gaps: list[Gap] = field(default_factory=list)
    changes: int = 0

    def add(self, time: int, digest: int) -> None:
        self.times.append(time)
        self.digests.append(digest)

    def __len__(self) -> int:
        return len(self.times)
