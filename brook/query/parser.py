"""Parses the text of a filter into a condition. Checks its bounds and its operators.

Operators are an allow list, so no filter can reach beyond its document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, Literal

from brook.errors import InvalidFilter
from brook.query.conditions import (
    And,
    Condition,
    ElementObject,
    ElementValue,
    Exists,
    HasType,
    In,
    Mod,
    Not,
    Or,
    Range,
    Size,
)
from brook.query.literals import is_literal, is_text, key_of, load, shown
from brook.query.order import NAN, NULL, NUMBER

# Many proxies reject a URL of more than 8 KB; 4 KB of JSON, percent-encoded, take about that.
MAX_BYTES: Final = 4096
# Parsing and matching recurse a few frames a level, and Python's limit is 1,000 frames.
MAX_DEPTH: Final = 50
# Every JSON value counts: 100 ObjectIds in an `$in` are 200. A node costs about 0.2 us for each document.
MAX_NODES: Final = 250

_TYPE_NAMES: Final = {
    "double": 1, "string": 2, "object": 3, "array": 4, "binData": 5, "objectId": 7, "bool": 8, "date": 9,
    "null": 10, "regex": 11, "javascript": 13, "javascriptWithScope": 15, "int": 16, "timestamp": 17,
    "long": 18, "decimal": 19, "minKey": -1, "maxKey": 127,
}  # fmt: skip
_NUMBER_TYPES: Final = frozenset({1, 16, 18, 19})


def parse(text: str) -> Condition:
    """Parse a decoded `filter` parameter. Raises InvalidFilter, which names the error and its place."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidFilter("filter is not UTF-8") from None
    if size > MAX_BYTES:
        raise InvalidFilter(f"filter has {size:,} bytes, more than {MAX_BYTES:,}")
    query = load(text)
    _check_bounds(query)
    return _query(query, "filter")


def _check_bounds(query: Any) -> None:
    """Raise InvalidFilter if the query exceeds a bound. Does not recurse."""
    waiting = [(query, 1)]
    nodes = 0
    while waiting:
        value, depth = waiting.pop()
        nodes += 1
        if isinstance(value, dict):
            for name in value:
                _check_text(name)
                if "\0" in name:
                    raise InvalidFilter("a name in filter contains a NUL character")
            inner = list(value.values())
        elif isinstance(value, list):
            inner = value
        else:
            if isinstance(value, str):
                _check_text(value)
            continue
        if depth > MAX_DEPTH:
            raise InvalidFilter(f"filter is nested more than {MAX_DEPTH} deep")
        if nodes + len(waiting) + len(inner) > MAX_NODES:
            raise InvalidFilter(f"filter has more than {MAX_NODES} values")
        waiting += [(item, depth + 1) for item in inner]


def _check_text(text: str) -> None:
    if not is_text(text):
        raise InvalidFilter("a string in filter contains a lone surrogate")


def _and(conditions: Iterable[Condition]) -> Condition:
    """Return the conjunction: flattened, and not wrapped in an And if it has only one part."""
    parts: set[Condition] = set()
    for condition in conditions:
        parts |= condition.conditions if isinstance(condition, And) else {condition}
    return parts.pop() if len(parts) == 1 else And(frozenset(parts))


def _or(conditions: Iterable[Condition]) -> Condition:
    parts: set[Condition] = set()
    for condition in conditions:
        parts |= condition.conditions if isinstance(condition, Or) else {condition}
    return parts.pop() if len(parts) == 1 else Or(frozenset(parts))


def _nor(conditions: Iterable[Condition]) -> Condition:
    return Not(_or(conditions))


_LOGICAL: Final[dict[str, Callable[[Iterable[Condition]], Condition]]] = {
    "$and": _and,
    "$or": _or,
    "$nor": _nor,
}


def _query(query: Any, where: str) -> Condition:
    """Parse the conditions on a document."""
    if not isinstance(query, dict):
        raise InvalidFilter(f"an object is needed at {where}")
    conditions = []
    for name, value in query.items():
        if name in _LOGICAL:
            conditions.append(_logical(name, value, f"{where}.{name}"))
        elif name.startswith("$"):
            raise InvalidFilter(f"unknown operator {shown(name)} at {where}")
        else:
            conditions.append(_field(name, value, f"{where}.{shown(name)}"))
    return _and(conditions)


def _logical(name: str, value: Any, where: str) -> Condition:
    queries = _list(value, where)
    if not queries:
        raise InvalidFilter(f"at least one object is needed at {where}")
    return _LOGICAL[name]([_query(query, f"{where}[{index}]") for index, query in enumerate(queries)])


def _field(path: str, value: Any, where: str) -> Condition:
    """Parse one field of a query: its value is a literal to equal, or an object of operators."""
    names = path.split(".")
    if "" in names:
        raise InvalidFilter(f"an empty name in the path at {where}")
    if len(names) > MAX_DEPTH:
        raise InvalidFilter(f"a path of more than {MAX_DEPTH} names at {where}")
    if isinstance(value, dict) and value and next(iter(value)).startswith("$") and not is_literal(value):
        return _operators(path, value, where)
    return In(path, frozenset({key_of(value, where)}))


def _operators(path: str | None, value: dict[str, Any], where: str) -> Condition:
    """Parse an object of operators. Without a path, they test an element of an array."""
    conditions = []
    for name, argument in value.items():
        if name not in _OPERATORS:
            raise InvalidFilter(f"unknown operator {shown(name)} at {where}")
        conditions.append(_OPERATORS[name](path, argument, f"{where}.{name}"))
    return _and(conditions)


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidFilter(f"an array is needed at {where}")
    return value


def _whole_number(value: Any, where: str) -> int:
    """Return the value of a number without a fraction; its BSON type does not matter."""
    kind, number = key_of(value, where)
    if kind != NUMBER or number is NAN or not -(2**63) <= number < 2**63 or number != int(number):
        raise InvalidFilter(f"a whole number is needed at {where}")
    return int(number)


def _eq(path: str | None, value: Any, where: str) -> Condition:
    return In(path, frozenset({key_of(value, where)}))


def _in(path: str | None, value: Any, where: str) -> Condition:
    keys = (key_of(item, f"{where}[{index}]") for index, item in enumerate(_list(value, where)))
    return In(path, frozenset(keys))


def _range(
    operator: Literal["$gt", "$gte", "$lt", "$lte"], path: str | None, value: Any, where: str
) -> Condition:
    key = key_of(value, where)
    if key[0] == NULL:
        # Null sorts only with itself: `$gte` and `$lte` reduce to equality, `$gt` and `$lt` match nothing.
        return In(path, frozenset({key} if operator.endswith("e") else ()))
    return Range(path, operator, key)


def _exists(path: str | None, value: Any, where: str) -> Condition:
    if not isinstance(value, bool) and not (isinstance(value, int) and value in (0, 1)):
        raise InvalidFilter(f"true or false is needed at {where}")
    return Exists(path) if value else Not(Exists(path))


def _type(path: str | None, value: Any, where: str) -> Condition:
    types = value if isinstance(value, list) else [value]
    if not types:
        raise InvalidFilter(f"at least one type is needed at {where}")
    codes: set[int] = set()
    for item in types:
        if item == "number":
            codes |= _NUMBER_TYPES
        elif isinstance(item, str):
            if item not in _TYPE_NAMES:
                raise InvalidFilter(f"unknown type {shown(item)} at {where}")
            codes.add(_TYPE_NAMES[item])
        else:
            number = _whole_number(item, where)
            if number not in _TYPE_NAMES.values():
                raise InvalidFilter(f"unknown type {number} at {where}")
            codes.add(number)
    return HasType(path, frozenset(codes))


def _not(path: str | None, value: Any, where: str) -> Condition:
    if not isinstance(value, dict) or not value:
        raise InvalidFilter(f"an object with operators is needed at {where}")
    return Not(_operators(path, value, where))


def _all(path: str | None, value: Any, where: str) -> Condition:
    """Parse `$all`: an array of values to equal, or of `$elemMatch` only."""
    items = _list(value, where)
    if not items:
        return In(path, frozenset())
    if not any(isinstance(item, dict) and "$elemMatch" in item for item in items):
        return _and(_eq(path, item, f"{where}[{index}]") for index, item in enumerate(items))
    conditions = []
    for index, item in enumerate(items):
        if not isinstance(item, dict) or item.keys() != {"$elemMatch"}:
            raise InvalidFilter(f"$elemMatch cannot be mixed with values at {where}[{index}]")
        conditions.append(_element(path, item["$elemMatch"], f"{where}[{index}].$elemMatch"))
    return _and(conditions)


def _element(path: str | None, value: Any, where: str) -> Condition:
    """Parse `$elemMatch`: conditions on the fields of the elements, or on the elements themselves."""
    if not isinstance(value, dict):
        raise InvalidFilter(f"an object is needed at {where}")
    first = next(iter(value), "")
    if first.startswith("$") and first not in _LOGICAL:
        return ElementValue(path, _operators(None, value, where))
    return ElementObject(path, _query(value, where))


def _size(path: str | None, value: Any, where: str) -> Condition:
    size = _whole_number(value, where)
    if not 0 <= size < 2**31:
        raise InvalidFilter(f"a whole number from 0 to 2,147,483,647 is needed at {where}")
    return Size(path, size)


def _mod(path: str | None, value: Any, where: str) -> Condition:
    """Parse `$mod`. Truncates both numbers, as MongoDB does."""
    numbers = _list(value, where)
    if len(numbers) != 2:
        raise InvalidFilter(f"a divisor and a remainder are needed at {where}")
    divisor, remainder = (_cut(number, f"{where}[{index}]") for index, number in enumerate(numbers))
    if divisor == 0:
        raise InvalidFilter(f"a divisor other than 0 is needed at {where}[0]")
    return Mod(path, divisor, remainder)


def _cut(value: Any, where: str) -> int:
    kind, number = key_of(value, where)
    if kind != NUMBER or number is NAN or not -(2**63) <= number < 2**63:
        raise InvalidFilter(f"a number within 64 bits is needed at {where}")
    return int(number)


_OPERATORS: Final[dict[str, Callable[[str | None, Any, str], Condition]]] = {
    "$eq": _eq,
    "$ne": lambda path, value, where: Not(_eq(path, value, where)),
    "$gt": partial(_range, "$gt"),
    "$gte": partial(_range, "$gte"),
    "$lt": partial(_range, "$lt"),
    "$lte": partial(_range, "$lte"),
    "$in": _in,
    "$nin": lambda path, value, where: Not(_in(path, value, where)),
    "$exists": _exists,
    "$type": _type,
    "$not": _not,
    "$all": _all,
    "$elemMatch": _element,
    "$size": _size,
    "$mod": _mod,
}
