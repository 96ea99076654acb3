"""BSON documents as JSON."""

from __future__ import annotations

import base64
import datetime
import re
from typing import Any
from uuid import UUID

import orjson
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp, json_util
from bson import decode as bson_decode
from bson.binary import UUID_SUBTYPE, UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument

Document = dict[str, Any]

# A document must be shown even if Python cannot represent a value: strings that are not UTF-8 get
# replacement characters, and dates outside Python's range of years stay numbers.
_CODEC: CodecOptions[Document] = CodecOptions(
    document_class=dict,
    tz_aware=True,
    tzinfo=datetime.UTC,
    # Every other choice refuses the whole document for a UUID of the wrong length, which MongoDB accepts.
    uuid_representation=UuidRepresentation.UNSPECIFIED,
    unicode_decode_error_handler="replace",
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)

_LAZY_CODEC: CodecOptions[RawBSONDocument] = _CODEC.with_options(document_class=RawBSONDocument)

_RELAXED = json_util.JSONOptions(
    json_mode=json_util.JSONMode.RELAXED, tz_aware=True, uuid_representation=UuidRepresentation.UNSPECIFIED
)

# Passing through subclasses hands Int64 (a subclass of int) to `_plain`, and datetimes because
# orjson would print microseconds.
_OPTIONS = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATETIME

# Beyond this, a JavaScript number loses digits (Number.MAX_SAFE_INTEGER is one less).
_LARGEST_EXACT = 2**53


def decode(raw: bytes) -> Document:
    """A BSON document as Python values; keys keep their order."""
    # The driver turns an object with `$ref` and `$id`, even a whole document, into a DBRef. A DBRef is not a
    # dict, and has an attribute for each of its fields.
    if b"$ref\0" in raw:
        return {name: _as_dicts(value) for name, value in RawBSONDocument(raw, _LAZY_CODEC).items()}
    return bson_decode(raw, _CODEC)


def to_json(document: Document) -> str:
    """A document as compact JSON that a browser reads without knowing BSON; see `docs/protocol.md`."""
    return orjson.dumps(document, default=_plain, option=_OPTIONS).decode()


def to_ejson(document: Document) -> str:
    """A document as compact relaxed Extended JSON (v2), without loss."""
    return json_util.dumps(document, json_options=_RELAXED, separators=(",", ":"), ensure_ascii=False)


def rfc3339(time: datetime.datetime) -> str:
    """A time in UTC, with milliseconds: BSON keeps no more."""
    return f"{time:%Y-%m-%dT%H:%M:%S}".zfill(19) + f".{time.microsecond // 1000:03d}Z"


def _as_dicts(value: Any) -> Any:
    match value:
        case RawBSONDocument():
            return {name: _as_dicts(inner) for name, inner in value.items()}
        case list():
            return [_as_dicts(item) for item in value]
        case Code() if value.scope is not None:
            return Code(str(value), _as_dicts(value.scope))
    return value


def _plain(value: Any) -> Any:
    """The JSON value for a BSON value that JSON lacks."""
    match value:
        case ObjectId() | Decimal128() | UUID():
            return str(value)
        case Int64():
            return int(value) if -_LARGEST_EXACT <= value <= _LARGEST_EXACT else str(int(value))
        case datetime.datetime():
            return rfc3339(value)
        case DatetimeMS():
            return int(value)
        case Binary() if value.subtype == UUID_SUBTYPE and len(value) == 16:
            return str(UUID(bytes=value))
        case bytes() | Binary():
            return base64.b64encode(value).decode()
        case Regex():
            return f"/{value.pattern}/{_regex_flags(value.flags)}"
        case Timestamp():
            return {"t": value.time, "i": value.inc}
        case Code():
            return str(value) if value.scope is None else {"code": str(value), "scope": dict(value.scope)}
        case DBRef():  # the driver reads a DBPointer as a DBRef
            return dict(value.as_doc())
        case MinKey():
            return "MinKey"
        case MaxKey():
            return "MaxKey"
        case dict():
            return dict(value)
        case str():
            return str(value)
    raise TypeError(f"no JSON for {type(value).__name__}")


def _regex_flags(flags: int) -> str:
    letters = {"i": re.I, "l": re.L, "m": re.M, "s": re.S, "u": re.U, "x": re.X}
    return "".join(letter for letter, flag in letters.items() if flags & flag)
