"""The order of BSON values in MongoDB: by type first, then within the type.

A filter keeps each of its values as a `Key`: the rank of the type in MongoDB's order, and a hashable value
with MongoDB's equality and order. Document values are compared with keys without conversion.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

Key = tuple[int, Any]
"""`(kind, value)`. Two keys are equal if MongoDB finds their values equal: 1, 1.0 and Decimal128("1") share a
key, True has another.
"""

# Types in MongoDB's order. Types with the same rank compare as one type.
MIN: Final = -1
NULL: Final = 5
NUMBER: Final = 10
STRING: Final = 15
OBJECT: Final = 20
ARRAY: Final = 25
BINARY: Final = 30
OBJECT_ID: Final = 35
BOOLEAN: Final = 40
DATE: Final = 45
TIMESTAMP: Final = 47
MAX: Final = 127
# No filter contains a value of these types. (DBRef stands for a DBPointer: `documents.decode` decodes nothing
# else as DBRef.)
_OTHERS: Final = {Regex: 50, DBRef: 55, Code: 60}

# Types with an equality that an index can serve. Null is not among them: it also matches a missing field.
PLAIN_KINDS: Final = frozenset({NUMBER, STRING, BINARY, OBJECT_ID, BOOLEAN, DATE, TIMESTAMP})

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MILLISECOND: Final = datetime.timedelta(milliseconds=1)


class Missing:
    """The value at a path that does not exist."""


class NotANumber:
    """NaN in MongoDB's order: equal to itself and before every other number."""

    def __lt__(self, other: object) -> bool:
        return other is not self

    def __gt__(self, other: object) -> bool:
        return False


MISSING: Final = Missing()
NAN: Final = NotANumber()


def kind_of(value: Any) -> int:
    """Return the rank of a value's type in MongoDB's order."""
    return _KINDS[type(value)]


def type_code(value: Any) -> int:
    """Return the BSON type number of a value; 0 for MISSING."""
    if type(value) is Code and value.scope is not None:
        return _CODE_WITH_SCOPE
    return _TYPE_CODES[type(value)]


def order(value: Any, key: Key) -> int:
    """Return -1, 0 or 1 if a value sorts before, with or after a key. Recurses no deeper than the key."""
    kind, wanted = key
    own = kind_of(value)
    if own != kind:
        return -1 if own < kind else 1
    if kind == ARRAY:
        for item, other in zip(value, wanted, strict=False):
            if difference := order(item, other):
                return difference
        return _compare(len(value), len(wanted))
    if kind == OBJECT:
        return _order_fields(value, wanted)
    return _compare(KEY_MAKERS[type(value)](value)[1], wanted)


def _order_fields(fields: dict[str, Any], wanted: tuple[tuple[str, Key], ...]) -> int:
    """Compare field by field: first the types, then the names, then the values."""
    for (name, value), (other_name, other) in zip(fields.items(), wanted, strict=False):
        difference = _compare(kind_of(value), other[0]) or _compare(name, other_name) or order(value, other)
        if difference:
            return difference
    return _compare(len(fields), len(wanted))


def _compare(left: Any, right: Any) -> int:
    return int(left > right) - int(left < right)


def _double(value: float) -> Key:
    return NUMBER, value if value == value else NAN


def decimal_key(value: Decimal128) -> Key:
    """Return the key of a decimal. Python compares Decimal, int and float of any size exactly."""
    number = value.to_decimal()
    return NUMBER, NAN if number.is_nan() else number


def binary_key(value: bytes, subtype: int) -> Key:
    """Return the key of binary data, which sorts by length, then by subtype, then by content."""
    # Data of the deprecated subtype 2 begins with its length.
    data = len(value).to_bytes(4, "little") + value if subtype == 2 else bytes(value)
    return BINARY, (len(data), subtype, data)


def _date(value: datetime.datetime) -> Key:
    return DATE, (value - _EPOCH) // _MILLISECOND


KEY_MAKERS: Final[dict[type, Callable[[Any], Key]]] = {
    Missing: lambda _: (NULL, 0),  # an equality with null matches a missing field
    type(None): lambda _: (NULL, 0),
    int: lambda value: (NUMBER, value),
    Int64: lambda value: (NUMBER, value),
    float: _double,
    Decimal128: decimal_key,
    str: lambda value: (STRING, value),
    bytes: lambda value: binary_key(value, 0),
    Binary: lambda value: binary_key(value, value.subtype),
    UUID: lambda value: binary_key(value.bytes, 4),
    ObjectId: lambda value: (OBJECT_ID, value.binary),
    bool: lambda value: (BOOLEAN, value),
    datetime.datetime: _date,
    DatetimeMS: lambda value: (DATE, int(value)),
    Timestamp: lambda value: (TIMESTAMP, (value.time, value.inc)),
    MinKey: lambda _: (MIN, 0),
    MaxKey: lambda _: (MAX, 0),
}
"""Key makers by Python type. A type that is not listed here equals no plain value."""

_KINDS: Final[dict[type, int]] = {
    Missing: 0,
    type(None): NULL,
    **dict.fromkeys((int, Int64, float, Decimal128), NUMBER),
    str: STRING,
    dict: OBJECT,
    list: ARRAY,
    **dict.fromkeys((bytes, Binary, UUID), BINARY),
    ObjectId: OBJECT_ID,
    bool: BOOLEAN,
    **dict.fromkeys((datetime.datetime, DatetimeMS), DATE),
    Timestamp: TIMESTAMP,
    **_OTHERS,
    MinKey: MIN,
    MaxKey: MAX,
}

# `int` is BSON's 32-bit integer: the decoder returns longer ones as `Int64`.
_TYPE_CODES: Final[dict[type, int]] = {
    Missing: 0,
    float: 1,
    str: 2,
    dict: 3,
    list: 4,
    **dict.fromkeys((bytes, Binary, UUID), 5),
    ObjectId: 7,
    bool: 8,
    **dict.fromkeys((datetime.datetime, DatetimeMS), 9),
    type(None): 10,
    Regex: 11,
    DBRef: 12,
    Code: 13,
    int: 16,
    Timestamp: 17,
    Int64: 18,
    Decimal128: 19,
    MinKey: -1,
    MaxKey: 127,
}
_CODE_WITH_SCOPE: Final = 15
