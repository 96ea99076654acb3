"""The filter of a subscription: a MongoDB query, checked and compiled once.

`docs/filters.md` describes filters for users.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import bson
from bson import json_util
from bson.binary import UuidRepresentation
from bson.codec_options import DatetimeConversion
from bson.raw_bson import RawBSONDocument

from brook.query import parser
from brook.query.conditions import And, Condition, In
from brook.query.order import KEY_MAKERS, PLAIN_KINDS, Key
from brook.query.paths import finder, overlap

# Upper bound of the memory of a filter for each character of its text. Measured with tracemalloc on the worst
# case: 60 `$elemMatch`.
BYTES_PER_CHARACTER = 70

_QUERY = json_util.JSONOptions(
    tz_aware=True,
    uuid_representation=UuidRepresentation.UNSPECIFIED,
    # Dates outside of Python's range of years stay numbers.
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)


@dataclass(frozen=True, slots=True)
class Filter:
    """A valid query. Two filters are equal if their conditions are."""

    condition: Condition
    size: int = field(default=0, compare=False)
    """Approximate bytes held."""
    query: bytes = field(default=b"\x05\0\0\0\0", compare=False, repr=False)
    """The query as BSON, for `find`."""
    matches: Callable[[dict[str, Any]], bool] = field(init=False, compare=False, repr=False)
    """Returns True if MongoDB's `find` would return this document, decoded by `documents.decode`."""

    equalities: Mapping[str, frozenset[Key]] = field(init=False, compare=False, repr=False)
    """Keys by path. A document matches only if `index_keys` finds one of the keys at each path."""

    only_about_id: bool = field(init=False, compare=False, repr=False)
    """True if the filter reads no field but `_id`. An empty filter reads none."""

    @property
    def is_empty(self) -> bool:
        """True for `{}`, which matches every document."""
        return self.condition == And(frozenset())

    def __post_init__(self) -> None:
        object.__setattr__(self, "matches", self.condition.compile())
        object.__setattr__(self, "equalities", MappingProxyType(_equalities(self.condition)))
        on_id = all(path.split(".", 1)[0] == "_id" for path in self.condition.paths())
        object.__setattr__(self, "only_about_id", on_id)

    @classmethod
    def parse(cls, text: str) -> Filter:
        """Parse a decoded `filter` parameter. Raises InvalidFilter, which names the error and its place."""
        condition = parser.parse(text)
        query = bson.encode(json_util.loads(text, json_options=_QUERY))
        return cls(condition, 1500 + BYTES_PER_CHARACTER * len(text), query)

    def __and__(self, other: Filter) -> Filter:
        """Return the filter that a document passes if it passes both."""
        both = {"$and": [RawBSONDocument(self.query), RawBSONDocument(other.query)]}
        # One flat conjunction, so that `equalities` sees the conditions of both.
        condition = And(_conjunction(self.condition) | _conjunction(other.condition))
        return Filter(condition, self.size + other.size, bson.encode(both))

    def reads(self, path: str) -> bool:
        """Return True if a change at a dotted path, as MongoDB reports it, may change the result."""
        return any(overlap(path, read) for read in self.condition.paths())


def index_keys(document: dict[str, Any], path: str) -> set[Key]:
    """Return the key of every value in a document that an equality on this path could match."""
    keys: set[Key] = set()

    def collect(value: Any) -> bool:
        make = KEY_MAKERS.get(type(value))
        if make is not None:
            keys.add(make(value))
        return False

    finder(path, collect)(document)
    return keys


def _equalities(condition: Condition) -> dict[str, frozenset[Key]]:
    """Return the equalities by path; of several on one path, the one with the fewest keys.

    Their keys cannot be intersected: different elements of an array may satisfy different equalities.
    """
    found: dict[str, frozenset[Key]] = {}
    for part in _conjunction(condition):
        if not (isinstance(part, In) and part.path and all(key[0] in PLAIN_KINDS for key in part.keys)):
            continue
        if part.path not in found or len(part.keys) < len(found[part.path]):
            found[part.path] = part.keys
    return found


def _conjunction(condition: Condition) -> frozenset[Condition]:
    return condition.conditions if isinstance(condition, And) else frozenset({condition})
