"""Documents as JSON: every type of BSON, and what other programs may have written."""

from __future__ import annotations

import datetime
import json
import math
import re
import struct
from uuid import UUID

import bson
import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from hypothesis import given, settings
from hypothesis import strategies as st

from brook.changes import documents
from brook.changes.change import Change
from brook.query import Fields
from brook.subscription import Subscription
from tests.support.drivers import needs_odd_uuids
from tests.support.events import traced_memory
from tests.support.raw_client import Parser

UTC = datetime.UTC
STANDARD = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
NS = {"db": "babblingBrook", "coll": "creatures"}
CRAWDAD = ObjectId("5bfef740419aeed958bbfa1b")
TOKEN = "826B0285BB000000012B022C0100296E5A1004AB46645F696400645BFEF740419AEED958BBFA1B0004"


def rendered(value: object) -> str:
    """A value as it comes from MongoDB and goes to the browser."""
    raw = bson.encode({"v": value}, codec_options=STANDARD)
    text = documents.to_json(documents.decode(raw))
    assert text.startswith('{"v":')
    return text[5:-1]


def element(kind: int, body: bytes, name: bytes = b"v") -> bytes:
    """A document of one element that no driver would write."""
    content = bytes([kind]) + name + b"\0" + body
    return struct.pack("<i", len(content) + 5) + content + b"\0"


def binary(subtype: int, data: bytes) -> bytes:
    return element(5, struct.pack("<i", len(data)) + bytes([subtype]) + data)


def change(operation: str, document: dict | None, raw: bytes | None = None) -> Change:
    """A change event as the server sends it for a document."""
    key = document or {"_id": CRAWDAD}
    event = {
        "_id": {"_data": TOKEN},
        "operationType": operation,
        "clusterTime": Timestamp(1795327419, 1),
        "ns": NS,
        "documentKey": {"_id": key["_id"]},
    }
    if operation != "delete":
        event["fullDocument"] = document
    encoded = bson.encode(event, codec_options=STANDARD)
    return Change(TOKEN, operation, encoded)


def frame(event: Change) -> bytes:
    return event.decode().frame(Subscription())


# -- types -----------------------------------------------------------------------------------------

VALUES = [
    (CRAWDAD, '"5bfef740419aeed958bbfa1b"'),
    ("crawdad", '"crawdad"'),
    ('"\\\n\0\u2028', '"\\"\\\\\\n\\u0000\u2028"'),
    ("B\u00e4che \U0001f41f", '"B\u00e4che \U0001f41f"'),
    (True, "true"),
    (None, "null"),
    (7, "7"),
    (-(2**31), "-2147483648"),
    (Int64(7), "7"),
    (2**53 - 1, "9007199254740991"),
    (-(2**53), "-9007199254740992"),
    (2**53 + 1, '"9007199254740993"'),
    (-(2**53) - 1, '"-9007199254740993"'),
    (2**63 - 1, '"9223372036854775807"'),
    (-(2**63), '"-9223372036854775808"'),
    (1.5, "1.5"),
    (1e300, "1e+300"),
    (2.0, "2.0"),
    (math.nan, "null"),
    (math.inf, "null"),
    (-math.inf, "null"),
    (Decimal128("1.10"), '"1.10"'),
    (Decimal128("NaN"), '"NaN"'),
    (Decimal128("9.999999999999999999999999999999999E+6144"), '"9.999999999999999999999999999999999E+6144"'),
    (UUID("12345678-1234-5678-1234-567812345678"), '"12345678-1234-5678-1234-567812345678"'),
    (b"\x00\xff", '"AP8="'),
    (Binary(b"\x00\xff", 128), '"AP8="'),
    (Binary(b"0123456789abcdef", 3), '"MDEyMzQ1Njc4OWFiY2RlZg=="'),
    (Binary(b"0123456789abcdef", 6), '"MDEyMzQ1Njc4OWFiY2RlZg=="'),
    (b"", '""'),
    (datetime.datetime(2026, 11, 22, 6, 10, 0, 123_000, UTC), '"2026-11-22T06:10:00.123Z"'),
    (datetime.datetime(1970, 1, 1, tzinfo=UTC), '"1970-01-01T00:00:00.000Z"'),
    (datetime.datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC), '"1969-12-31T23:59:59.999Z"'),
    (datetime.datetime(1815, 6, 18, 11, 35, 0, 7_000, UTC), '"1815-06-18T11:35:00.007Z"'),
    (datetime.datetime(987, 6, 5, 4, 3, 2, 1_000, UTC), '"0987-06-05T04:03:02.001Z"'),
    (datetime.datetime(1, 1, 1, tzinfo=UTC), '"0001-01-01T00:00:00.000Z"'),
    (datetime.datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC), '"9999-12-31T23:59:59.999Z"'),
    (DatetimeMS(253402300800000), "253402300800000"),
    (DatetimeMS(-62135596800001), "-62135596800001"),
    (Timestamp(7, 8), '{"t":7,"i":8}'),
    (Regex("^a/b", "imsx"), '"/^a/b/imsx"'),
    (re.compile("a", re.IGNORECASE), '"/a/iu"'),
    (Code("f()"), '"f()"'),
    (Code("f()", {"at": CRAWDAD}), '{"code":"f()","scope":{"at":"5bfef740419aeed958bbfa1b"}}'),
    (DBRef("creatures", CRAWDAD), '{"$ref":"creatures","$id":"5bfef740419aeed958bbfa1b"}'),
    (DBRef("c", 1, "d", more=2), '{"$ref":"c","$id":1,"$db":"d","more":2}'),
    ({"$ref": 5, "$id": 1}, '{"$ref":5,"$id":1}'),
    (
        {"$id": 1, "items": [{"$ref": "c", "$id": CRAWDAD}], "$ref": "c"},
        '{"$id":1,"items":[{"$ref":"c","$id":"5bfef740419aeed958bbfa1b"}],"$ref":"c"}',
    ),
    (
        [[Code("f()", {"$ref": "c", "$id": 1})], "$ref\0"],
        '[[{"code":"f()","scope":{"$ref":"c","$id":1}}],"$ref\\u0000"]',
    ),
    (MinKey(), '"MinKey"'),
    (MaxKey(), '"MaxKey"'),
    ([], "[]"),
    ([1, [CRAWDAD, {"a": None}]], '[1,["5bfef740419aeed958bbfa1b",{"a":null}]]'),
    ({}, "{}"),
    ({"z": 1, "a": 2, "10": 3, "9": 4, "": 5}, '{"z":1,"a":2,"10":3,"9":4,"":5}'),
]


def test_renderings_of_one_change_are_bounded_however_many_wishes_there_are():
    opened = change("insert", {"_id": 1, "text": "x" * 10_000}).decode()
    with traced_memory() as grown:
        for number in range(1000):
            assert opened.frame(Subscription(fields=Fields.parse(f"-x{number}")))
        assert grown() < 1_000_000


RAW = {
    "undefined": (element(6, b""), "null"),
    "symbol": (element(0x0E, b"\x02\0\0\0s\0"), '"s"'),
    "database pointer": (
        element(0x0C, b"\x02\0\0\0c\0" + CRAWDAD.binary),
        '{"$ref":"c","$id":"5bfef740419aeed958bbfa1b"}',
    ),
    "old binary": (binary(2, b"\x02\0\0\0\x00\xff"), '"AP8="'),
    "sensitive": (binary(8, b"\x00\xff"), '"AP8="'),
    "vector": (binary(9, b"\x27\0\x01"), '"JwAB"'),
    "string that is not UTF-8": (element(2, b"\x03\0\0\0\xffa\0"), '"\ufffda"'),
    "regex that is not UTF-8": (element(0x0B, b"\xff\0i\0"), '"/\ufffd/i"'),
    "regex with flags of the future": (element(0x0B, b"a\0iz\0"), '"/a/i"'),
    "NaN with a payload": (element(1, b"\x01\0\0\0\0\0\xf8\xff"), "null"),
    "earliest date": (element(9, struct.pack("<q", -(2**63))), None),
    "latest date": (element(9, struct.pack("<q", 2**63 - 1)), None),
    "UUID that is too short": (binary(4, b"\x00\xff"), '"AP8="'),
    "UUID that is too long": (binary(4, b"0123456789abcdefg"), '"MDEyMzQ1Njc4OWFiY2RlZmc="'),
    "UUID that is empty": (binary(4, b""), '""'),
    "old UUID that is too short": (binary(3, b"\x00\xff"), '"AP8="'),
}


@pytest.mark.parametrize(("value", "expected"), VALUES, ids=lambda value: repr(value)[:40])
def test_every_type_has_its_json(value, expected):
    assert rendered(value) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(*row, id=name, marks=[needs_odd_uuids] if "UUID" in name else [])
        for name, row in RAW.items()
    ],
)
def test_what_only_other_programs_write_is_shown_as_well(raw, expected):
    """The server takes all of these; one that could not be shown would end the stream for everybody."""
    text = documents.to_json(documents.decode(raw))
    json.loads(text)
    if expected is not None:
        assert text == f'{{"v":{expected}}}'


def test_document_that_nobody_can_decode_does_not_end_the_stream():
    """The server takes it, from a program that writes BSON by hand."""
    broken = RawBSONDocument(binary(2, b"\x07\0\0\0\x00\xff"))
    event = {"ns": NS, "operationType": "insert", "documentKey": {"_id": 1}, "fullDocument": broken}
    sent = frame(Change(TOKEN, "insert", bson.encode(event)))
    [event] = Parser().feed(sent)
    assert (event.event, json.loads(event.data)) == ("reset", {"reason": "unreadable-event"})


def test_key_that_is_not_utf8_is_shown():
    assert documents.to_json(documents.decode(element(10, b"", b"k\xff"))) == '{"k\ufffd":null}'


def test_keys_keep_their_order():
    keys = [f"k{number * 7919 % 1000}" for number in range(1000)]
    text = documents.to_json(documents.decode(bson.encode(dict.fromkeys(keys, 1))))
    assert list(json.loads(text)) == keys


@pytest.mark.parametrize("levels", [1, 100, 180])
@pytest.mark.parametrize("leaf", [1, CRAWDAD, {"t": DatetimeMS(10**15)}, Code("f", {})], ids=repr)
def test_documents_may_be_nested_as_deeply_as_the_server_takes_them(levels, leaf):
    nested: object = leaf
    for level in range(levels):
        nested = {"a": nested} if level % 2 else [nested]
    text = rendered(nested)
    assert text.count("[") + text.count('{"a"') == levels


def test_document_of_16_megabytes_is_shown():
    assert len(rendered("\u00e4" * 8_000_000)) == 8_000_002


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text() | st.binary()
    | st.datetimes(timezones=st.just(UTC)) | st.uuids() | st.integers(-(2**63), 2**63 - 1).map(DatetimeMS)
    | st.binary(min_size=12, max_size=12).map(ObjectId),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))), inner,
                      max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None)
@given(value=values)
def test_whatever_bson_holds_becomes_one_line_of_json(value):
    try:
        text = rendered(value)
    except UnicodeEncodeError:
        return  # a lone surrogate cannot be written to BSON either
    json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    assert not set(text) & set("\r\n\0")


@settings(deadline=None)
@given(value=st.datetimes(min_value=datetime.datetime(1, 1, 1), timezones=st.just(UTC)))
def test_date_is_read_back_to_the_millisecond(value):
    expected = value.replace(microsecond=value.microsecond // 1000 * 1000)
    text = json.loads(rendered(value))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    assert datetime.datetime.fromisoformat(text) == expected


# -- changes ---------------------------------------------------------------------------------------


def test_the_document_of_the_article_is_exactly_these_bytes():
    event = change("insert", {"_id": CRAWDAD, "type": "crawdad"})
    assert frame(event) == (
        f'id: {TOKEN}\ndata: {{"_id":"5bfef740419aeed958bbfa1b","type":"crawdad"}}\n\n'.encode()
    )
    assert (event.id, event.key) == (TOKEN, TOKEN)


@pytest.mark.parametrize("operation", ["insert", "update", "replace"])
def test_whole_document_is_in_the_default_event_whatever_changed_it(operation):
    [event] = Parser().feed(frame(change(operation, {"_id": 7, "text": "a\r\nb\n\nc\0"})))
    assert (event.event, event.id) == ("message", TOKEN)
    assert event.data == '{"_id":7,"text":"a\\r\\nb\\n\\nc\\u0000"}'


def test_delete_is_its_own_event_with_the_id_alone():
    assert frame(change("delete", {"_id": CRAWDAD, "type": "crawdad"})) == (
        f'id: {TOKEN}\nevent: delete\ndata: {{"_id":"5bfef740419aeed958bbfa1b"}}\n\n'.encode()
    )


def test_key_may_be_a_document_and_a_shard_key_stays_out_of_it():
    event = {"ns": NS, "operationType": "delete", "documentKey": {"shard": 9, "_id": {"b": 1, "a": CRAWDAD}}}
    sent = frame(Change(TOKEN, "delete", bson.encode(event)))
    assert b'data: {"_id":{"b":1,"a":"5bfef740419aeed958bbfa1b"}}\n\n' in sent


@pytest.mark.parametrize("document", [{"fullDocument": None}, {}], ids=["null", "missing"])
def test_update_whose_document_is_gone_sends_nothing(document):
    event = {"ns": NS, "operationType": "update", "documentKey": {"_id": 1}, **document}
    assert frame(Change(TOKEN, "update", bson.encode(event))) == b""


def test_size_of_a_change_is_what_it_holds():
    assert change("insert", {"_id": 1, "text": "x" * 5000}).size > 5000
