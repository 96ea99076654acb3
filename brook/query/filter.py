"""What a client wants to hear of a collection: a MongoDB query, checked and compiled once.

`docs/filters.md` is this for users.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from brook.query import parser
from brook.query.conditions import And, Condition, In
from brook.query.order import KEY_MAKERS, PLAIN_KINDS, Key
from brook.query.paths import finder

# What a filter takes in memory for each character of its text, at the most (measured with tracemalloc: an
# `$elemMatch` for each of 60 elements).
BYTES_PER_CHARACTER = 70


@dataclass(frozen=True, slots=True)
class Filter:
    """A query that was found fit. Equal to every other that differs only in trivial ways."""

    condition: Condition
    size: int = field(default=0, compare=False)
    """Bytes that it holds on to, about."""
    matches: Callable[[dict[str, Any]], bool] = field(init=False, compare=False, repr=False)
    """Whether MongoDB's `find` would find this document, as `documents.decode` reads it."""

    equalities: Mapping[str, frozenset[Key]] = field(init=False, compare=False, repr=False)
    """Paths and the keys of which `index_keys` must have one there, or the filter does not match."""

    only_about_id: bool = field(init=False, compare=False, repr=False)
    """Whether a document's `_id` alone decides; so it does where nothing is asked."""

    @property
    def asks_for_something(self) -> bool:
        """False for `{}`, which every document passes."""
        return self.condition != And(frozenset())

    def __post_init__(self) -> None:
        object.__setattr__(self, "matches", self.condition.compile())
        object.__setattr__(self, "equalities", MappingProxyType(_equalities(self.condition)))
        on_id = all(path.split(".", 1)[0] == "_id" for path in self.condition.paths())
        object.__setattr__(self, "only_about_id", on_id)

    @classmethod
    def parse(cls, text: str) -> Filter:
        """The filter in a decoded `filter` parameter. Raises InvalidFilter: what is wrong, and where."""
        return cls(parser.parse(text), 1500 + BYTES_PER_CHARACTER * len(text))


def index_keys(document: dict[str, Any], path: str) -> set[Key]:
    """Everything that an equality on this path could be equal to in a document."""
    keys: set[Key] = set()

    def collect(value: Any) -> bool:
        make = KEY_MAKERS.get(type(value))
        if make is not None:
            keys.add(make(value))
        return False

    finder(path, collect)(document)
    return keys


def _equalities(condition: Condition) -> dict[str, frozenset[Key]]:
    """Of several on one path, the one with the fewest keys: an array may meet each with another element."""
    found: dict[str, frozenset[Key]] = {}
    for part in condition.conditions if isinstance(condition, And) else (condition,):
        if not (isinstance(part, In) and part.path and all(key[0] in PLAIN_KINDS for key in part.keys)):
            continue
        if part.path not in found or len(part.keys) < len(found[part.path]):
            found[part.path] = part.keys
    return found
