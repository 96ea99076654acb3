"""The values of a filter: Extended JSON, converted to the keys that `order` compares with documents."""

from __future__ import annotations

import base64
import datetime
import json
import re
from collections.abc import Callable
from typing import Any, Final

from bson import Decimal128

from brook.errors import InvalidFilter
from brook.query import mongosh
from brook.query.order import (
    ARRAY,
    DATE,
    KEY_MAKERS,
    MAX,
    MIN,
    NUMBER,
    OBJECT,
    OBJECT_ID,
    TIMESTAMP,
    Key,
    binary_key,
    decimal_key,
)

# The parameter `id` accepts the same forms.
HEX_24: Final = re.compile(r"[0-9a-fA-F]{24}")
UUID_FORM: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
LONG: Final = range(-(2**63), 2**63)

_SHOWN_CHARACTERS: Final = 60
_INT = range(-(2**31), 2**31)
_UNSIGNED = range(2**32)

_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,19}")
_NUMBER = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|-?Infinity|NaN")
_SUBTYPE = re.compile(r"[0-9a-fA-F]{1,2}")
_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:?[0-9]{2})"
)


def shown(text: str) -> str:
    """Shorten a part of a filter to one printable line for a message."""
    short = text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
    return short if short.isprintable() else json.dumps(short)[1:-1]


def is_text(text: str) -> bool:
    """False for a lone surrogate, which JSON can spell and no document can have."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def load(text: str) -> Any:
    """Parse JSON. Raises InvalidFilter, also if a name appears twice in one object."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
    except json.JSONDecodeError as error:
        written = mongosh.as_json(text)
        hint = f"; in JSON it is {written}" if written else ""
        raise InvalidFilter(f"filter is not JSON: {error.msg} at character {error.pos}{hint}") from None
    except (RecursionError, ValueError):
        raise InvalidFilter("filter is not readable JSON: nested too deeply, or a number too long") from None


def is_literal(value: dict[str, Any]) -> bool:
    """Return True if a JSON object is an Extended JSON literal such as `{"$oid": ...}`."""
    return len(value) == 1 and next(iter(value)) in _LITERALS


def key_of(value: Any, where: str) -> Key:
    """Convert a JSON value to a key. Raises InvalidFilter."""
    if isinstance(value, dict):
        return _key_of_object(value, where)
    if isinstance(value, list):
        return ARRAY, tuple(key_of(item, f"{where}[{index}]") for index, item in enumerate(value))
    if type(value) is int and value not in LONG:
        raise InvalidFilter(f"{shown(str(value))} is beyond 64 bits at {where}")
    return KEY_MAKERS[type(value)](value)


def _key_of_object(value: dict[str, Any], where: str) -> Key:
    if is_literal(value):
        ((name, content),) = value.items()
        try:
            return _LITERALS[name](content)
        # Decimal128 raises ArithmeticError for text that it cannot parse.
        except (TypeError, ValueError, ArithmeticError):
            raise InvalidFilter(f"not a valid {name} at {where}") from None
    fields: list[tuple[str, Key]] = []
    for name, content in value.items():
        if name.startswith("$"):
            raise InvalidFilter(f"{shown(name)} is not allowed in a value at {where}")
        fields.append((name, key_of(content, f"{where}.{shown(name)}")))
    return OBJECT, tuple(fields)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidFilter(f"the name {shown(twice)} appears twice in one object of filter")
    return found


def _constant(name: str) -> Any:
    raise InvalidFilter(f'{name} is not JSON; write {{"$numberDouble": "{name}"}}')


def _float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise InvalidFilter(f"{shown(text)} is too large for a number")
    return number


def _matching(pattern: re.Pattern[str], text: Any) -> str:
    if not (isinstance(text, str) and pattern.fullmatch(text)):
        raise ValueError
    return text


def _whole(text: Any, within: range) -> int:
    number = int(_matching(_WHOLE_NUMBER, text))
    if number not in within:
        raise ValueError
    return number


def _date(content: Any) -> Key:
    """Convert ISO 8601 text with an offset, or milliseconds. Text starts at the year 1; numbers have no
    limit.
    """
    if isinstance(content, dict):
        [text] = _parts(content, "$numberLong")
        return DATE, _whole(text, LONG)
    if type(content) is int and content in LONG:
        return DATE, content
    when = datetime.datetime.fromisoformat(_matching(_DATE, content))
    try:
        when.astimezone(datetime.UTC)
    except OverflowError:
        # The offset leads beyond the years 1 to 9999.
        raise ValueError from None
    return KEY_MAKERS[datetime.datetime](when)


def _parts(content: Any, *names: str) -> list[Any]:
    """Return the values of an object that must have exactly these names."""
    if not isinstance(content, dict) or content.keys() != set(names):
        raise ValueError
    return [content[name] for name in names]


def _binary(content: Any) -> Key:
    data, subtype = _parts(content, "base64", "subType")
    return binary_key(base64.b64decode(data, validate=True), int(_matching(_SUBTYPE, subtype), 16))


def _timestamp(content: Any) -> Key:
    seconds, increment = _parts(content, "t", "i")
    if type(seconds) is not int or type(increment) is not int:
        raise ValueError
    if seconds not in _UNSIGNED or increment not in _UNSIGNED:
        raise ValueError
    return TIMESTAMP, (seconds, increment)


def _end(kind: int) -> Callable[[Any], Key]:
    def make(content: Any) -> Key:
        if content != 1 or type(content) is not int:
            raise ValueError
        return kind, 0

    return make


_LITERALS: Final[dict[str, Callable[[Any], Key]]] = {
    "$oid": lambda text: (OBJECT_ID, bytes.fromhex(_matching(HEX_24, text))),
    "$date": _date,
    "$numberInt": lambda text: (NUMBER, _whole(text, _INT)),
    "$numberLong": lambda text: (NUMBER, _whole(text, LONG)),
    "$numberDouble": lambda text: KEY_MAKERS[float](float(_matching(_NUMBER, text))),
    "$numberDecimal": lambda text: decimal_key(Decimal128(_matching(_NUMBER, text))),
    "$uuid": lambda text: binary_key(bytes.fromhex(_matching(UUID_FORM, text).replace("-", "")), 4),
    "$binary": _binary,
    "$timestamp": _timestamp,
    "$minKey": _end(MIN),
    "$maxKey": _end(MAX),
}
