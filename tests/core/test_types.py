"""Every type of BSON as `types=json` and as `types=ejson` writes it: the table of `docs/protocol.md`."""

from __future__ import annotations

import datetime
import json
import math
from typing import Any, NamedTuple
from uuid import UUID

import bson
import pytest
from bson import (
    Binary,
    Code,
    DBRef,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
    json_util,
)
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from hypothesis import given, settings
from hypothesis import strategies as st

from brook.changes import documents
from brook.changes.change import Change
from brook.namespaces import Namespaces
from brook.parameters import subscription
from tests.support.drivers import needs_odd_uuids
from tests.support.processes import ROOT
from tests.support.raw_client import Parser

UTC = datetime.UTC
# As a program writes, with UUIDs of its language.
WRITTEN: CodecOptions[dict[str, Any]] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
# As it reads: dates and binary data as they are stored, whatever they hold.
READ: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True, tzinfo=UTC, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
OPTIONS = json_util.JSONOptions(
    tz_aware=True, tzinfo=UTC, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
CRAWDAD = ObjectId("5bfef740419aeed958bbfa1b")


class Row(NamedTuple):
    """A row of the docs' table: the type, how it is described, a value, and its two spellings."""

    type: str
    written: str
    value: Any
    json: str
    ejson: str


TABLE = [
    Row("String", "string", "crawdad", '"crawdad"', '"crawdad"'),
    Row("Int32", "number", 3, "3", "3"),
    Row("Double", "number", 2.5, "2.5", "2.5"),
    Row("Double that is NaN or infinite", "null", -math.inf, "null", '{"$numberDouble":"-Infinity"}'),
    Row("Long, up to 2^53 either way", "number", Int64(2**53), "9007199254740992", "9007199254740992"),
    Row("Long, beyond that", "string", Int64(2**53 + 1), '"9007199254740993"', "9007199254740993"),
    Row("Decimal128", "string", Decimal128("9.99"), '"9.99"', '{"$numberDecimal":"9.99"}'),
    Row("Boolean", "true or false", True, "true", "true"),
    Row("Null", "null", None, "null", "null"),
    Row("Object", "object", {"b": 1, "a": 2}, '{"b":1,"a":2}', '{"b":1,"a":2}'),
    Row("Array", "array", [1, 2], "[1,2]", "[1,2]"),
    Row("ObjectId", "string of 24 hex digits", CRAWDAD,
        '"5bfef740419aeed958bbfa1b"', '{"$oid":"5bfef740419aeed958bbfa1b"}'),
    Row(
        "Date", "string: RFC 3339, UTC, milliseconds",
        datetime.datetime(2026, 11, 22, 6, 10, 0, 123_000, UTC),
        '"2026-11-22T06:10:00.123Z"', '{"$date":"2026-11-22T06:10:00.123Z"}',
    ),
    Row(
        "Date outside the years 1 to 9999", "number: milliseconds since 1970", DatetimeMS(253402300800000),
        "253402300800000", '{"$date":{"$numberLong":"253402300800000"}}',
    ),
    Row(
        "UUID (binary subtype 4)", "string: its usual text", UUID("00112233-4455-6677-8899-aabbccddeeff"),
        '"00112233-4455-6677-8899-aabbccddeeff"',
        '{"$binary":{"base64":"ABEiM0RVZneImaq7zN3u/w==","subType":"04"}}',
    ),
    Row("Binary, any other", "string: base64", Binary(b"abc", 128),
        '"YWJj"', '{"$binary":{"base64":"YWJj","subType":"80"}}'),
    Row(
        "Regular expression", "string", Regex("^cra", "i"), '"/^cra/i"',
        '{"$regularExpression":{"pattern":"^cra","options":"i"}}',
    ),
    Row("Timestamp", "object", Timestamp(1795328801, 7),
        '{"t":1795328801,"i":7}', '{"$timestamp":{"t":1795328801,"i":7}}'),
    Row("Code", "string", Code("f()"), '"f()"', '{"$code":"f()"}'),
    Row(
        "Code with scope", "object", Code("f()", {"x": 1}), '{"code":"f()","scope":{"x":1}}',
        '{"$code":"f()","$scope":{"x":1}}',
    ),
    Row("DBRef", "object", DBRef("creatures", 1),
        '{"$ref":"creatures","$id":1}', '{"$ref":"creatures","$id":1}'),
    Row("MinKey", "string", MinKey(), '"MinKey"', '{"$minKey":1}'),
    Row("MaxKey", "string", MaxKey(), '"MaxKey"', '{"$maxKey":1}'),
]  # fmt: skip

# What else there is of the types of the table.
FURTHER = [
    ("infinity", math.inf),
    ("smallest Long", Int64(-(2**63))),
    ("negative zero", -0.0),
    ("whole Double", 2.0),
    ("decimal without a value", Decimal128("NaN")),
    ("largest decimal", Decimal128("9.999999999999999999999999999999999E+6144")),
    ("false", False),
    ("empty text", ""),
    ("text with line ends", 'a\r\nb"\\\u2028\0'),
    ("text beyond the first plane", "\U0001f41f"),
    ("date before 1970", datetime.datetime(1815, 6, 18, 11, 35, 0, 7_000, UTC)),
    ("date of the year 1", datetime.datetime(1, 1, 1, tzinfo=UTC)),
    ("earliest date", DatetimeMS(-(2**63))),
    ("latest date", DatetimeMS(2**63 - 1)),
    ("empty binary", Binary(b"", 0)),
    ("own binary", Binary(b"\x00\xff", 128)),
    ("old UUID", Binary(bytes(16), 3)),
    ("MD5", Binary(bytes(16), 5)),
    ("UUID that is too short", Binary(b"\x01", 4)),
    ("regular expression with all flags", Regex("a/b\n", "imsx")),
    ("code with an empty scope", Code("f()", {})),
    ("code with a scope of types", Code("f()", {"at": CRAWDAD})),
    ("DBRef with everything", DBRef("creatures", CRAWDAD, "db", more=[1])),
    ("nothing but objects", {"a": {"b": {}}, "c": []}),
    ("array of everything", [row.value for row in TABLE]),
]


def received(value: Any, types: str) -> str:
    """A value as a client gets it that asked for these types."""
    document = {"_id": 1, "v": value}
    event = {
        "documentKey": {"_id": 1}, "fullDocument": document, "ns": {"db": "brook", "coll": "creatures"},
        "wallTime": datetime.datetime.now(UTC),
    }  # fmt: skip
    wanted = subscription(Namespaces("brook", ["*"]), None, {"types": [types]})
    raw = bson.encode(event, codec_options=WRITTEN)
    [heard] = Parser().feed(Change("82AB", "insert", raw).decode().frame(wanted))
    assert heard.data.startswith('{"_id":1,"v":')
    return heard.data[len('{"_id":1,"v":') : -1]


def kept(value: Any) -> Any:
    """A value after it was in MongoDB."""
    return bson.decode(bson.encode({"v": value}, codec_options=WRITTEN), READ)["v"]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.type)
def test_every_type_has_its_two_spellings(row):
    assert received(row.value, "json") == row.json
    assert received(row.value, "ejson") == row.ejson


@pytest.mark.parametrize(
    "value",
    [pytest.param(row.value, id=row.type) for row in TABLE]
    + [pytest.param(v, id=n, marks=[needs_odd_uuids] if "too short" in n else []) for n, v in FURTHER],
)
def test_extended_json_is_read_back_to_the_same_value(value):
    text = received(value, "ejson")
    assert "\n" not in text
    assert "\r" not in text
    back = json_util.loads(f'{{"v":{text}}}', json_options=OPTIONS)
    assert stored(back) == stored({"v": kept(value)})


def test_not_a_number_is_read_back():
    assert received(math.nan, "json") == "null"
    back = json_util.loads(received(math.nan, "ejson"), json_options=OPTIONS)
    assert math.isnan(back)


def stored(document: dict[str, Any]) -> bytes:
    """The BSON of a document, but for the width of integers: relaxed Extended JSON writes both as numbers."""
    return bson.encode(_narrow(document), codec_options=WRITTEN)


def _narrow(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _narrow(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_narrow(item) for item in value]
    return int(value) if isinstance(value, Int64) else value


def test_table_is_the_one_in_the_docs():
    """Row by row: the type, the description, and the example."""
    page = (ROOT / "docs" / "protocol.md").read_text()
    section = page.partition("## Values")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|") and not line.startswith("|---")
    ]
    header, *rows = rows
    assert header == ["in MongoDB", "in JSON", "for example", "with `types=ejson`"]
    assert rows == [[row.type, row.written, f"`{row.json}`", f"`{row.ejson}`"] for row in TABLE]


def test_table_has_every_type_that_bson_has():
    """By their numbers in BSON; what was given up long ago (undefined, symbol, DBPointer) apart."""
    numbers = {bson.encode({"v": row.value}, codec_options=WRITTEN)[4] for row in TABLE}
    assert numbers == {*range(1, 20), 0x7F, 0xFF} - {6, 0x0C, 0x0E}


@pytest.mark.parametrize("levels", [1, 50, 180])
@pytest.mark.parametrize("leaf", [1, CRAWDAD, DatetimeMS(10**15), Code("f", {"x": 1})], ids=repr)
def test_extended_json_may_be_nested_as_deeply_as_the_server_takes_documents(levels, leaf):
    nested: Any = leaf
    for level in range(levels):
        nested = {"a": nested} if level % 2 else [nested]
    assert json_util.loads(received(nested, "ejson"), json_options=OPTIONS) == kept(nested)


# MongoDB rejects none of these; Extended JSON gives them a meaning of its own.
@pytest.mark.parametrize(
    "value",
    [
        {"$oid": "no hex"}, {"$date": "tomorrow"}, {"$numberLong": []}, {"$ref": 5, "$id": 1},
        {"$binary": {}},
        {"$uuid": 5}, {"$code": 1}, {"$timestamp": 1}, {"$regularExpression": None}, {"$dbPointer": 1},
    ],
    ids=repr,
)  # fmt: skip
def test_object_that_looks_like_extended_json_is_shown_as_it_is(value):
    for types in ("json", "ejson"):
        assert json.loads(received(value, types)) == value


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))
# A name that begins with a dollar sign may look like Extended JSON.
names = texts.filter(lambda name: not name.startswith("$"))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.integers(-(2**63), 2**63 - 1).map(Int64)
    | st.floats(allow_nan=False) | texts | st.binary().map(lambda data: Binary(data, 0))
    | st.builds(Binary, st.binary(), st.sampled_from([1, 3, 5, 6, 7, 8, 128, 255]))
    | st.datetimes(timezones=st.just(UTC)) | st.integers(-(2**63), 2**63 - 1).map(DatetimeMS) | st.uuids()
    | st.binary(min_size=12, max_size=12).map(ObjectId)
    | st.builds(Timestamp, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
    | st.decimals(allow_nan=False, places=3, min_value=-(10**9), max_value=10**9).map(Decimal128)
    | st.builds(Regex, texts, st.sampled_from(["", "i", "imsx"]))
    | texts.map(Code) | st.sampled_from([MinKey(), MaxKey()]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@needs_odd_uuids
@settings(deadline=None)
@given(document=st.dictionaries(names, values, max_size=5))
def test_whatever_bson_holds_comes_back_from_extended_json(document):
    original = documents.decode(bson.encode(document, codec_options=WRITTEN))
    text = documents.to_ejson(original)
    json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    assert not set(text) & set("\r\n\0")
    back = json_util.loads(text, json_options=OPTIONS)
    assert stored(back) == stored(original)
