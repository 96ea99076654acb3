"""A filter's conditions: frozen values, each of which compiles to a function that answers for a document.

A condition without a path is about one value: an element of an array, under `$elemMatch`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from brook.query.order import (
    ARRAY,
    KEY_MAKERS,
    MAX,
    MIN,
    MISSING,
    NAN,
    NUMBER,
    OBJECT,
    Key,
    kind_of,
    order,
    type_code,
)
from brook.query.paths import Test, finder

_LARGEST_LONG: Final = 2**63 - 1


class Condition(ABC):
    """Part of a filter: frozen, hashable, and equal to what means the same up to trivial differences."""

    __slots__ = ()

    @abstractmethod
    def compile(self) -> Test:
        """A function that answers for a document (without a path: for a value)."""

    @abstractmethod
    def paths(self) -> Iterator[str]:
        """Everything in a document that the answer depends on."""


@dataclass(frozen=True, slots=True)
class And(Condition):
    """Every one holds; of none at all, always."""

    conditions: frozenset[Condition]

    def compile(self) -> Test:
        """Ask until one says no."""
        tests = [condition.compile() for condition in self.conditions]
        if len(tests) == 1:
            return tests[0]

        def holds(document: Any) -> bool:
            for test in tests:  # noqa: SIM110, a generator would cost more than the tests
                if not test(document):
                    return False
            return True

        return holds

    def paths(self) -> Iterator[str]:
        """The paths of all."""
        for condition in self.conditions:
            yield from condition.paths()


@dataclass(frozen=True, slots=True)
class Or(Condition):
    """At least one holds."""

    conditions: frozenset[Condition]

    def compile(self) -> Test:
        """Ask until one says yes."""
        tests = [condition.compile() for condition in self.conditions]

        def holds(document: Any) -> bool:
            for test in tests:  # noqa: SIM110, see And
                if test(document):
                    return True
            return False

        return holds

    def paths(self) -> Iterator[str]:
        """The paths of all."""
        for condition in self.conditions:
            yield from condition.paths()


@dataclass(frozen=True, slots=True)
class Not(Condition):
    """The opposite, for the document as a whole: `$ne` is true when no element of an array is equal."""

    condition: Condition

    def compile(self) -> Test:
        """Ask, and turn it round."""
        test = self.condition.compile()
        return lambda document: not test(document)

    def paths(self) -> Iterator[str]:
        """Those of what is denied."""
        return self.condition.paths()


@dataclass(frozen=True, slots=True)
class Leaf(Condition):
    """A condition on what one path leads to: on any of it, where arrays are in the way."""

    path: str | None

    @abstractmethod
    def _test(self) -> Test:
        """A function that answers for one value, or for MISSING."""

    def compile(self) -> Test:
        """Look wherever the path leads."""
        return self._test() if self.path is None else finder(self.path, self._test())

    def paths(self) -> Iterator[str]:
        """Its own, if it has one."""
        if self.path is not None:
            yield self.path


@dataclass(frozen=True, slots=True)
class In(Leaf):
    """Equal to one of these; `$eq` has one."""

    keys: frozenset[Key]

    def _test(self) -> Test:
        plain = frozenset(key for key in self.keys if key[0] not in (OBJECT, ARRAY))
        containers = tuple(self.keys - plain)
        makers = KEY_MAKERS

        def equal(value: Any) -> bool:
            make = makers.get(type(value))
            if make is not None:
                return make(value) in plain
            return any(not order(value, key) for key in containers)

        return equal


@dataclass(frozen=True, slots=True)
class Range(Leaf):
    """Before or after a value of the same type; never true for another type, nor between NaN and numbers."""

    operator: Literal["$gt", "$gte", "$lt", "$lte"]
    key: Key

    def _test(self) -> Test:
        key, kind = self.key, self.key[0]
        low = self.operator.startswith("$l")
        equal_holds = self.operator.endswith("e")
        # Everything is between the two ends, even what is missing.
        other_kinds = (kind == MAX and low) or (kind == MIN and not low)
        sign = -1 if low else 1

        def within(value: Any) -> bool:
            if kind_of(value) != kind:
                return other_kinds
            found = order(value, key)
            return equal_holds if not found else found == sign

        def within_numbers(value: Any) -> bool:
            if kind_of(value) != NUMBER:
                return False
            number = KEY_MAKERS[type(value)](value)[1]
            if number is NAN or key[1] is NAN:
                return equal_holds and number is key[1]
            beyond: bool = number < key[1] if low else number > key[1]
            return beyond or (equal_holds and bool(number == key[1]))

        return within_numbers if kind == NUMBER else within


@dataclass(frozen=True, slots=True)
class Exists(Leaf):
    """Something is there, be it null."""

    def _test(self) -> Test:
        return lambda value: value is not MISSING


@dataclass(frozen=True, slots=True)
class HasType(Leaf):
    """Of one of these BSON types."""

    codes: frozenset[int]

    def _test(self) -> Test:
        codes = self.codes
        return lambda value: type_code(value) in codes


@dataclass(frozen=True, slots=True)
class Mod(Leaf):
    """A number that leaves this remainder, as C divides: fractions cut off, with the dividend's sign."""

    divisor: int
    remainder: int

    def _test(self) -> Test:
        divisor, remainder = abs(self.divisor), self.remainder

        def leaves(value: Any) -> bool:
            if kind_of(value) != NUMBER:
                return False
            number = KEY_MAKERS[type(value)](value)[1]
            # Beyond 64 bits nothing matches; the comparison keeps 1E+6144 from becoming an integer.
            if number is NAN or not -_LARGEST_LONG - 2 < number < _LARGEST_LONG + 1:
                return False
            whole: int = math.trunc(number)
            return (whole % divisor if whole >= 0 else -(-whole % divisor)) == remainder

        return leaves


class _WholeArray(Leaf):
    """A condition on an array itself, not on its elements."""

    __slots__ = ()

    def compile(self) -> Test:
        """Look where the path leads, but not into the array there."""
        return self._test() if self.path is None else finder(self.path, self._test(), into_arrays=False)


@dataclass(frozen=True, slots=True)
class Size(_WholeArray):
    """An array of so many elements."""

    size: int

    def _test(self) -> Test:
        size = self.size
        return lambda value: type(value) is list and len(value) == size


@dataclass(frozen=True, slots=True)
class ElementObject(_WholeArray):
    """An array with an embedded document that meets a condition. An inner array is one named 0, 1, 2 ..."""

    condition: Condition

    def _test(self) -> Test:
        test = self.condition.compile()

        def holds(value: Any) -> bool:
            if type(value) is not list:
                return False
            for item in value:
                if type(item) is list:
                    item = {str(index): inner for index, inner in enumerate(item)}
                if type(item) is dict and test(item):
                    return True
            return False

        return holds


@dataclass(frozen=True, slots=True)
class ElementValue(_WholeArray):
    """An array with an element that meets a condition without a path."""

    condition: Condition

    def _test(self) -> Test:
        test = self.condition.compile()
        return lambda value: type(value) is list and any(map(test, value))
