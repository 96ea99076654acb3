"""The order of a window: the parameter `sort`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import bson

from brook.errors import InvalidParameter
from brook.query.literals import is_text
from brook.query.order import ARRAY, KEY_MAKERS, MISSING, OBJECT, Key, kind_of

# MongoDB allows 32 fields in a sort.
MAX_FIELDS: Final = 32
MAX_BYTES: Final = 1024

# An empty array sorts as MongoDB's old type "undefined": before null.
_EMPTY_ARRAY: Final[Key] = (4, 0)

Place = tuple[Any, ...]
"""The place of a document in an order. Two places compare as MongoDB's `sort` does."""


@dataclass(frozen=True, slots=True)
class Sort:
    """Paths, each with 1 (ascending) or -1 (descending). Ties are broken by `_id`."""

    fields: tuple[tuple[str, int], ...]
    command: bytes = field(init=False, compare=False, repr=False)
    """The order as BSON, for `find`."""
    _makers: tuple[Callable[[dict[str, Any]], Any], ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        fields = dict(self.fields)
        fields.setdefault("_id", 1)
        # Embedded, because `encode` moves `_id` to the front of a document, and here the order counts.
        object.__setattr__(self, "command", bson.encode({"": fields})[6:-1])
        makers = tuple(_maker(path, direction) for path, direction in fields.items())
        object.__setattr__(self, "_makers", makers)

    @classmethod
    def parse(cls, text: str) -> Sort:
        """Parse `{"size": -1, "name": 1}`. Raises InvalidParameter."""
        if len(text) > MAX_BYTES:
            raise InvalidParameter(f"sort has more than {MAX_BYTES:,} characters")
        try:
            pairs = json.loads(text, object_pairs_hook=tuple)
        except (ValueError, RecursionError):
            pairs = None
        if not isinstance(pairs, tuple) or not pairs:
            raise InvalidParameter('sort is a JSON object of fields and 1 or -1, such as {"size":-1}')
        if len(pairs) > MAX_FIELDS:
            raise InvalidParameter(f"sort takes at most {MAX_FIELDS} fields, got {len(pairs)}")
        seen = set()
        for path, direction in pairs:
            if not all(path.split(".")) or "$" in path or "\0" in path or not is_text(path):
                raise InvalidParameter(f"sort: {path[:50]!r} is not a field name")
            if type(direction) is not int or direction not in (1, -1):
                raise InvalidParameter(f"sort: {path[:50]!r} takes 1 or -1")
            if path in seen:
                raise InvalidParameter(f"sort: {path[:50]!r} is given twice")
            seen.add(path)
        return cls(pairs)

    def place(self, document: dict[str, Any]) -> Place:
        """The place of a document, decoded by `documents.decode`."""
        return tuple(make(document) for make in self._makers)


class _Descending:
    """A key in the opposite order."""

    __slots__ = ("key",)

    def __init__(self, key: Key) -> None:
        self.key = key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __lt__(self, other: _Descending) -> bool:
        return other.key < self.key

    def __gt__(self, other: _Descending) -> bool:
        return self.key < other.key


def _maker(path: str, direction: int) -> Callable[[dict[str, Any]], Any]:
    """The key of a document at a path: of the values of an array, the lowest, or descending the highest."""
    names = tuple(path.split("."))
    if direction == 1:
        return lambda document: min(_keys(document, names))
    return lambda document: _Descending(max(_keys(document, names)))


def _keys(value: Any, names: tuple[str, ...]) -> Iterator[Key]:
    """The keys of all values at a path. A missing value sorts as null."""
    while names and type(value) is dict:
        value, names = value.get(names[0], MISSING), names[1:]
    if type(value) is not list:
        yield sort_key(MISSING if names else value)
    elif not names:
        yield from map(sort_key, value) if value else (_EMPTY_ARRAY,)
    elif names[0].isdigit() and int(names[0]) < len(value) and not _names_field(value, names[0]):
        item, rest = value[int(names[0])], names[1:]
        if rest or not item:
            yield from _keys(item, rest)
        else:
            yield sort_key(item)  # an array in the array is not spread again
    else:
        for item in value or (MISSING,):
            yield from _keys(item if type(item) is dict else MISSING, names)


def _names_field(items: list[Any], name: str) -> bool:
    """True if a document in an array has a field with the name of an index."""
    return any(type(item) is dict and name in item for item in items)


def sort_key(value: Any) -> Key:
    """The key of any value in MongoDB's order, also of a document or an array."""
    if type(value) is dict:
        return OBJECT, tuple((kind_of(item), name, sort_key(item)) for name, item in value.items())
    if type(value) is list:
        return ARRAY, tuple(map(sort_key, value))
    make = KEY_MAKERS.get(type(value))
    if make is not None:
        return make(value)
    # Regular expressions and code: by their BSON, pattern first.
    return kind_of(value), bson.encode({"": value})[5:]
