"""The conditions of a filter. Each is a frozen value and compiles to a predicate on a document.

A condition without a path tests a single value: an array element under `$elemMatch`.
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
    """A part of a filter. Two conditions are equal if they differ only in the order of operands or values."""

    __slots__ = ()

    @abstractmethod
    def compile(self) -> Test:
        """Return a predicate on a document, or on a single value if the condition has no path."""

    @abstractmethod
    def paths(self) -> Iterator[str]:
        """Yield the path of each field that the predicate reads."""


@dataclass(frozen=True, slots=True)
class And(Condition):
    """`$and`: true if every condition holds. Without conditions it is always true."""

    conditions: frozenset[Condition]

    def compile(self) -> Test:
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
        for condition in self.conditions:
            yield from condition.paths()


@dataclass(frozen=True, slots=True)
class Or(Condition):
    """`$or`: true if at least one condition holds."""

    conditions: frozenset[Condition]

    def compile(self) -> Test:
        tests = [condition.compile() for condition in self.conditions]

        def holds(document: Any) -> bool:
            for test in tests:  # noqa: SIM110, see And
                if test(document):
                    return True
            return False

        return holds

    def paths(self) -> Iterator[str]:
        for condition in self.conditions:
            yield from condition.paths()


@dataclass(frozen=True, slots=True)
class Not(Condition):
    """Negates a condition on the whole document: `$ne` is true if no element of an array is equal."""

    condition: Condition

    def compile(self) -> Test:
        test = self.condition.compile()
        return lambda document: not test(document)

    def paths(self) -> Iterator[str]:
        return self.condition.paths()


@dataclass(frozen=True, slots=True)
class Leaf(Condition):
    """A condition on the values at one path. True if any value passes, when the path crosses arrays."""

    path: str | None

    @abstractmethod
    def _test(self) -> Test:
        """Return a predicate on one value or on MISSING."""

    def compile(self) -> Test:
        return self._test() if self.path is None else finder(self.path, self._test())

    def paths(self) -> Iterator[str]:
        if self.path is not None:
            yield self.path


@dataclass(frozen=True, slots=True)
class In(Leaf):
    """`$in`: equal to one of the keys. `$eq` is an `In` with one key."""

    keys: frozenset[Key]

    def _test(self) -> Test:
        plain = frozenset(key for key in self.keys if key[0] not in (OBJECT, ARRAY))
        containers = tuple(self.keys - plain)
        if not containers:
            plain = self.keys  # one set for each of ten thousand queries, instead of two
        makers = KEY_MAKERS

        def equal(value: Any) -> bool:
            make = makers.get(type(value))
            if make is not None:
                return make(value) in plain
            return any(not order(value, key) for key in containers)

        return equal


@dataclass(frozen=True, slots=True)
class Range(Leaf):
    """`$gt`, `$gte`, `$lt` and `$lte`: sorts before or after a value of the same type.

    Never true for a value of another type, nor between NaN and a number.
    """

    operator: Literal["$gt", "$gte", "$lt", "$lte"]
    key: Key

    def _test(self) -> Test:
        key, kind = self.key, self.key[0]
        low = self.operator.startswith("$l")
        equal_holds = self.operator.endswith("e")
        # Every value, even a missing one, lies between MinKey and MaxKey.
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
    """`$exists`: the field is present, possibly null."""

    def _test(self) -> Test:
        return lambda value: value is not MISSING


@dataclass(frozen=True, slots=True)
class HasType(Leaf):
    """`$type`: the value has one of these BSON types."""

    codes: frozenset[int]

    def _test(self) -> Test:
        codes = self.codes
        return lambda value: type_code(value) in codes


@dataclass(frozen=True, slots=True)
class Mod(Leaf):
    """`$mod`: a number with this remainder. Truncates, and keeps the sign of the dividend, as C does."""

    divisor: int
    remainder: int

    def _test(self) -> Test:
        divisor, remainder = abs(self.divisor), self.remainder

        def leaves(value: Any) -> bool:
            if kind_of(value) != NUMBER:
                return False
            number = KEY_MAKERS[type(value)](value)[1]
            # No number beyond 64 bits matches. Without this check, 1E+6144 would become an integer.
            if number is NAN or not -_LARGEST_LONG - 2 < number < _LARGEST_LONG + 1:
                return False
            whole: int = math.trunc(number)
            return (whole % divisor if whole >= 0 else -(-whole % divisor)) == remainder

        return leaves


class _WholeArray(Leaf):
    """A condition on an array as a whole, not on its elements."""

    __slots__ = ()

    def compile(self) -> Test:
        return self._test() if self.path is None else finder(self.path, self._test(), into_arrays=False)


@dataclass(frozen=True, slots=True)
class Size(_WholeArray):
    """`$size`: an array with this number of elements."""

    size: int

    def _test(self) -> Test:
        size = self.size
        return lambda value: type(value) is list and len(value) == size


@dataclass(frozen=True, slots=True)
class ElementObject(_WholeArray):
    """`$elemMatch` on documents: an array with an embedded document that meets the condition.

    An inner array is read as a document with the fields 0, 1, 2 and so on.
    """

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
    """`$elemMatch` on values: an array with an element that meets a condition without a path."""

    condition: Condition

    def _test(self) -> Test:
        test = self.condition.compile()
        return lambda value: type(value) is list and any(map(test, value))
