"""Converts a filter as it is typed in mongosh to the JSON that the server reads, for an error's message."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable
from typing import Final

# A longer conversion is not shown: it would hide the reason of the error.
MAX_CHARACTERS: Final = 500

_STRING = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_NUMBER = r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_TOKEN = re.compile(
    rf"""(?P<space>\s+)
    | (?P<call>(?:new\s+)?(?P<type>[A-Z]\w*)\s*\(\s*(?P<content>{_STRING}|{_NUMBER})\s*\))
    | (?P<string>{_STRING})
    | (?P<comma>,\s*(?=[\]}}]))
    | (?P<mark>[{{}}\[\],:])
    | (?P<number>{_NUMBER})
    | (?P<constant>(?:true|false|null)\b)(?!\s*:)
    | (?P<name>[A-Za-z_$][\w$.]*)(?=\s*:)
    """,
    re.VERBOSE,
)


def as_json(text: str) -> str | None:
    """Return the JSON of a query in a MongoDB shell's syntax; None if it has no JSON, or a long one."""
    parts: list[str] = []
    at = 0
    try:
        while at < len(text):
            token = _TOKEN.match(text, at)
            if token is None:
                return None
            parts.append(_written(token))
            at = token.end()
        written = "".join(parts)
        json.loads(written)
    # OSError: a time that the platform cannot hold.
    except (ValueError, OverflowError, OSError, RecursionError):
        return None
    return written if len(written) <= MAX_CHARACTERS and written.isprintable() else None


def _written(token: re.Match[str]) -> str:
    """Return the JSON of one token. Raises ValueError for a value without a JSON form."""
    kind = token.lastgroup if token["call"] is None else "call"
    if kind in ("space", "comma"):
        return ""
    if kind == "call":
        return _literal(token["type"], _unquoted(token["content"]))
    if kind == "string":
        return _quoted(_unquoted(token[0]))
    return _quoted(token[0]) if kind == "name" else token[0]


def _unquoted(text: str) -> str:
    """The text between quotes of either kind; a number as it is."""
    if text[0] not in "'\"":
        return text
    inner = text[1:-1].replace("\\'", "'")
    if text[0] == "'":
        inner = re.sub(r'(\\.)|"', lambda found: found[1] or '\\"', inner)
    return str(json.loads(f'"{inner}"'))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _literal(type: str, content: str) -> str:
    if type not in _LITERALS:
        raise ValueError(type)
    name, convert = _LITERALS[type]
    return f"{{{_quoted(name)}:{_quoted(convert(content))}}}"


def _date(content: str) -> str:
    """Convert a date as MongoDB's shell does: UTC if no offset is given."""
    if re.fullmatch(r"-?\d+", content) and len(content) != 4:
        when = datetime.datetime.fromtimestamp(int(content) / 1000, datetime.UTC)
    else:
        when = datetime.datetime.fromisoformat(content)
    when = when.astimezone(datetime.UTC) if when.tzinfo else when.replace(tzinfo=datetime.UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


_LITERALS: Final[dict[str, tuple[str, Callable[[str], str]]]] = {
    "ObjectId": ("$oid", str),
    "ISODate": ("$date", _date),
    "Date": ("$date", _date),
    "NumberInt": ("$numberInt", str),
    "Int32": ("$numberInt", str),
    "NumberLong": ("$numberLong", str),
    "Long": ("$numberLong", str),
    "NumberDecimal": ("$numberDecimal", str),
    "Decimal128": ("$numberDecimal", str),
    "UUID": ("$uuid", str),
}
