"""The things that clients ask for: the path of each, and what it means for the checker."""

from __future__ import annotations

import json
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tests.chaos.truth import DELETE, Operation, Truth

MASK = 2**64 - 1
WINDOW = 20
GROUPS = 3


def mix(number: int) -> int:
    """Spreads a stamp over 64 bits, so that a sum of them tells sets apart."""
    number = number * 0x9E3779B97F4A7C15 & MASK
    number ^= number >> 29
    return number * 0xBF58476D1CE4E5B9 & MASK


def group(stamp: int) -> int:
    """The field `g`: an update moves its document from one to another."""
    return stamp % GROUPS


def anything(_: Operation) -> bool:
    return True


def by_second_writer(operation: Operation) -> bool:
    # Without a pre-image, nobody knows whether a deleted document had matched: it is not sent.
    return operation.writer == 2 and operation.kind != DELETE


@dataclass(frozen=True)
class ChangesQuery:
    """A stream of changes. With an envelope, the stamp is the update's own; else that of the document."""

    name: str
    path: str
    envelope: bool = False
    accepts: Callable[[Operation], bool] = anything
    claims: Mapping[str, Any] | None = None
    """The claims of its token; without one it has the public streams."""


@dataclass(frozen=True)
class LiveQuery:
    """A live query over `(stamp, writer)` of each document."""

    name: str
    path: str
    find: dict[str, Any]
    holds: Callable[[int, int], bool]
    window: bool = False
    counts: bool = False
    paced: bool = False
    """With `every`, the id may be ahead of the documents by that time."""
    claims: Mapping[str, Any] | None = None

    def digest(self, stamps: Iterable[int]) -> int:
        """Of the documents that a client holds, in its order."""
        found = list(stamps)
        if self.counts:
            return len(found)
        if self.window:
            return ordered(found)
        return sum(map(mix, found)) & MASK

    def states(self, truth: Truth) -> Iterator[tuple[int, int]]:
        """Each time, and the digest that it has to be from then on."""
        held: dict[int, int] = {}
        sorted_stamps: list[int] = []
        total = 0
        for place, each in enumerate(truth.operations):
            old = held.pop(each.key, None)
            if old is not None:
                total -= mix(old)
                if self.window:
                    del sorted_stamps[bisect_left(sorted_stamps, old)]
            if each.kind != DELETE and self.holds(each.stamp, each.writer):
                held[each.key] = each.stamp
                total += mix(each.stamp)
                if self.window:
                    insort(sorted_stamps, each.stamp)
            if place + 1 == len(truth.times) or truth.times[place + 1] != each.time:
                if self.counts:
                    yield each.time, len(held)
                elif self.window:
                    yield each.time, ordered(sorted_stamps[: -WINDOW - 1 : -1])
                else:
                    yield each.time, total & MASK


def ordered(stamps: Iterable[int]) -> int:
    """A digest that depends on the order."""
    total = 0
    for stamp in stamps:
        total = (total * 1_000_003 + mix(stamp)) & MASK
    return total


def _url(_stream: str = "creatures", **parameters: Any) -> str:
    texts = {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in parameters.items()
    }
    query = "&".join(f"{name}={quote(text)}" for name, text in texts.items())
    return f"/stream/{_stream}" + ("?" + query if query else "")


def _everything(_: int, __: int) -> bool:
    return True


def _of_first_writer(_: int, writer: int) -> bool:
    return writer == 1


def _in_group_one(stamp: int, _: int) -> bool:
    return group(stamp) == 1


# The stream `mine` of the servers' configuration: the documents of the writer that the token names.
CHANGES = (
    ChangesQuery("plain", _url()),
    ChangesQuery("envelope", _url(format="envelope"), envelope=True),
    ChangesQuery("filtered", _url(filter={"w": 2}), accepts=by_second_writer),
    ChangesQuery("by a rule", _url("mine"), accepts=by_second_writer, claims={"w": 2}),
)
LIVE = (
    LiveQuery("live", _url(mode="live"), {}, _everything),
    LiveQuery("live, filtered", _url(mode="live", filter={"g": 1}), {"g": 1}, _in_group_one),
    LiveQuery("live, by a rule", _url("mine", mode="live"), {"w": 1}, _of_first_writer, claims={"w": 1}),
    LiveQuery("live, at intervals", _url(mode="live", every="500"), {}, _everything, paced=True),
    LiveQuery("window", _url(mode="live", sort={"n": -1}, limit=str(WINDOW)), {}, _everything, window=True),
    LiveQuery("count", _url(mode="count", filter={"w": {"$in": [1, 3]}}), {"w": {"$in": [1, 3]}},
              lambda _, writer: writer in (1, 3), counts=True),
)  # fmt: skip
