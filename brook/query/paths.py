"""Resolves dotted paths in a document, through arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from brook.query.order import MISSING

Test = Callable[[Any], bool]
"""A predicate on one value or on a whole document."""


def finder(path: str, test: Test, *, into_arrays: bool = True) -> Test:
    """Return a predicate on a document: true if any value at the path passes the test.

    If the path ends at an array, the test sees each element, then the array itself. With `into_arrays` false,
    it sees only the array.
    """
    names = tuple(path.split("."))
    if len(names) > 1:
        return lambda document: _find(document, names, test, into_arrays)
    name = names[0]

    def found(document: Any) -> bool:
        value = document.get(name, MISSING)
        if type(value) is list and into_arrays:
            for item in value:
                if test(item):
                    return True
        return test(value)

    return found


def _find(fields: dict[str, Any], names: tuple[str, ...], test: Test, into_arrays: bool) -> bool:
    """Follow the names to the last one, to an array, or to a value without fields."""
    value: Any = MISSING
    for position, name in enumerate(names, start=1):
        value = fields.get(name, MISSING)
        rest = names[position:]
        if type(value) is list:
            if rest:
                return _find_in_array(value, rest, test, into_arrays)
            return (into_arrays and any(map(test, value))) or test(value)
        if rest:
            if type(value) is not dict:
                return test(MISSING)
            fields = value
    return test(value)


def _find_in_array(items: list[Any], names: tuple[str, ...], test: Test, into_arrays: bool) -> bool:
    """Follow the names through an array. The next name may be a field of its documents, an index of it, or
    both.
    """
    name, rest = names[0], names[1:]
    for index, item in enumerate(items):
        is_document = type(item) is dict
        if is_document and _find(item, names, test, into_arrays):
            return True
        if name != str(index):
            continue
        if not rest:
            if test(item):
                return True
        elif is_document:
            if _find(item, rest, test, into_arrays):
                return True
        elif type(item) is list and _find_in_array(item, rest, test, into_arrays):
            return True
    return False


def overlap(one: str, other: str) -> bool:
    """Return True if one path may lie inside the other.

    A number may be an array index, which the other path leaves out.
    """
    names, others = _names(one), _names(other)
    common = min(len(names), len(others))
    return names[:common] == others[:common]


def _names(path: str) -> list[str]:
    return [name for name in path.split(".") if not name.isdigit()]
