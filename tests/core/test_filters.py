"""Filters: the answers of a real mongod, the bounds, and what the index relies on."""

from __future__ import annotations

import datetime
import json
import math
import os
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp, json_util
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from pymongo import WriteConcern

from brook.changes import documents
from brook.errors import InvalidFilter
from brook.query import Filter, index_keys
from brook.query.parser import MAX_BYTES, MAX_DEPTH, MAX_NODES

# More of the same by hand: FILTER_EXAMPLES=5000 draws that many batches, and other ones every time.
EXAMPLES = int(os.environ.get("FILTER_EXAMPLES", "0"))
differential = settings(
    max_examples=EXAMPLES or 40,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    # A failure names one filter and one document: nothing is left to shrink.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)

RAW = CodecOptions(document_class=RawBSONDocument)
WRITTEN = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
# The filter's way to mongod: a reader of Extended JSON that is not ours.
# It keeps binary data as it is: with a representation of UUIDs it would turn subtype 3 into 4.
READ = json_util.JSONOptions(
    tz_aware=True,
    uuid_representation=UuidRepresentation.UNSPECIFIED,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
CANONICAL = json_util.JSONOptions(
    json_mode=json_util.JSONMode.CANONICAL, uuid_representation=UuidRepresentation.STANDARD
)
RELAXED = json_util.JSONOptions(
    json_mode=json_util.JSONMode.RELAXED, uuid_representation=UuidRepresentation.STANDARD
)


def utc(*parts: int) -> datetime.datetime:
    return datetime.datetime(*parts, tzinfo=datetime.UTC)


def in_json(value: Any, options: json_util.JSONOptions = CANONICAL) -> Any:
    """A value as the JSON of a filter."""
    return json.loads(json_util.dumps({"": value}, json_options=options))[""]


# Small pools, so that filters and documents meet; in each, values that a careless matcher takes for equal.
SMALL = [None, True, False, 0, 1, 2, 1.0, Int64(1), Decimal128("1"), Decimal128("2.0"), "", "a", "b"]
NUMBERS = [
    5, -7, 7, 0.5, -0.0, -1.5, 2.5, 0.1, math.nan, math.inf, -math.inf, 2.0**53, Int64(2**53 + 1),
    Int64(2**53),
    Int64(2**63 - 1), Int64(-(2**63)), 2.0**63, -(2.0**63), 1e300, 5e-324, 1e-300,
    Decimal128("0.1"), Decimal128("0.5"), Decimal128("2.5"), Decimal128("-7"), Decimal128("9007199254740993"),
    Decimal128("NaN"), Decimal128("Infinity"), Decimal128("-Infinity"), Decimal128("-0"), Decimal128("0E+3"),
    Decimal128("1E+6144"), Decimal128("1E-6176"), Decimal128("9223372036854775807.5"), Decimal128("1.0E+2"),
    100,
]  # fmt: skip
OTHERS = [
    "ab", "A", "1", "é", "z", "\U0001f600", "\uffee",
    utc(1970, 1, 1), utc(1969, 12, 31, 23, 59, 59, 999000), utc(2026, 11, 22, 6, 10, 0, 123000), utc(1, 1, 1),
    DatetimeMS(2**60), DatetimeMS(-(2**60)), DatetimeMS(0),
    ObjectId("5bfef740419aeed958bbfa1b"), ObjectId("5bfef740419aeed958bbfa1c"), ObjectId("ff" * 12),
    UUID(int=1), UUID(int=2**127), Binary(b"", 0), Binary(b"ab", 0), Binary(b"ab", 5), Binary(b"zz", 0),
    Binary(UUID(int=1).bytes, 3), Binary(UUID(int=1).bytes, 0), Binary(b"ab", 2), Binary(b"abcdef", 0),
    Timestamp(1, 1), Timestamp(1, 2), Timestamp(2, 1), MinKey(), MaxKey(),
]  # fmt: skip
NEVER_IN_FILTERS = [
    Regex("a"),
    Regex("b", "i"),
    Code("x"),
    Code("x", {"a": 1}),
    DBRef("a", 1),
    DBRef("b", 1, "c"),
]

NAMES = ["a", "b", "c", "0", "1"]
PATHS = [
    *["a"] * 8, *["b"] * 3, *["a.b"] * 4, *["a.0"] * 2, "b.0", "b.0.0", "a.0.b", "a.b.0", "a.1", "b.a",
    "a.b.c",
    "0", "a.00", "a.$id", "_id",
]  # fmt: skip
TYPES = [
    "double", "string", "object", "array", "binData", "objectId", "bool", "date", "null", "regex",
    "javascript",
    "javascriptWithScope", "int", "timestamp", "long", "decimal", "minKey", "maxKey", "number",
    *range(1, 6), *range(7, 12), 13, *range(15, 20), -1, 127, 2.0,
]  # fmt: skip

scalars = st.one_of(st.sampled_from(SMALL), st.sampled_from(SMALL), st.sampled_from(NUMBERS + OTHERS))


def nested(leaves: st.SearchStrategy[Any], most: int) -> st.SearchStrategy[Any]:
    def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        objects = st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
        return st.one_of(st.lists(inner, max_size=3), objects, st.lists(objects, max_size=3))

    return st.recursive(leaves, containers, max_leaves=most)


values = nested(st.one_of(scalars, scalars, scalars, st.sampled_from(NEVER_IN_FILTERS)), 6)
whole_documents = st.dictionaries(st.sampled_from(["a", "a", "b", "0"]), values, max_size=3)

plain_literals = st.one_of(
    st.builds(in_json, scalars, st.sampled_from([CANONICAL, RELAXED])),
    st.sampled_from([0, 1, 2, "a", None, True]),
)
literals = st.one_of(plain_literals, plain_literals, nested(plain_literals, 3))
some_numbers = st.sampled_from(
    [2, 3, -3, 1, 4.5, {"$numberDecimal": "2.5"}, {"$numberLong": "9007199254740993"}]
)
remainders = st.sampled_from([0, 1, -1, 2, 0.5, -1.5, {"$numberDecimal": "1.9"}])


ARGUMENTS = {
    **dict.fromkeys(("$eq", "$ne", "$gt", "$gte", "$lt", "$lte"), literals),
    **dict.fromkeys(("$in", "$nin"), st.lists(literals, max_size=4)),
    "$exists": st.sampled_from([True, False, 0, 1]),
    "$type": st.one_of(st.sampled_from(TYPES), st.lists(st.sampled_from(TYPES), min_size=1, max_size=3)),
    "$size": st.sampled_from([0, 1, 2, 3, 2.0, {"$numberLong": "1"}]),
    "$mod": st.tuples(some_numbers, remainders).map(list),
}
OPERATORS = [*ARGUMENTS, "$not", "$all", "$elemMatch"]


@st.composite
def operators(draw, depth=1):
    """One or two operators with their arguments."""
    drawn = {}
    for name in draw(st.lists(st.sampled_from(OPERATORS if depth else [*ARGUMENTS]), min_size=1, max_size=2)):
        if name == "$not":
            drawn[name] = draw(operators(max(depth - 1, 0)))
        elif name == "$elemMatch":
            drawn[name] = draw(elements(max(depth - 1, 0)))
        elif name == "$all":
            matches = st.builds(lambda element: {"$elemMatch": element}, elements(max(depth - 1, 0)))
            drawn[name] = draw(st.lists(literals, max_size=3) | st.lists(matches, min_size=1, max_size=2))
        else:
            drawn[name] = draw(ARGUMENTS[name])
    return drawn


@st.composite
def fields(draw, depth=1):
    """A query on one or two paths."""
    paths = draw(st.lists(st.sampled_from(PATHS), min_size=1, max_size=2))
    return {path: draw(operators(depth) | operators(depth) | literals) for path in paths}


@st.composite
def elements(draw, depth):
    """What an element of an array shall be, as a value or as a document."""
    kind = draw(st.sampled_from(["value", "value", "fields", "fields", "logical", "any"]))
    if kind == "value":
        return draw(operators(depth))
    if kind == "fields":
        return draw(fields(depth))
    return {"$or": [draw(fields(depth)), draw(fields(depth))]} if kind == "logical" else {}


field_queries = fields()
queries = st.recursive(
    field_queries,
    lambda inner: st.one_of(
        field_queries,
        st.sampled_from(["$and", "$or", "$nor"]).flatmap(
            lambda name: st.fixed_dictionaries({name: st.lists(inner, min_size=1, max_size=3)})
        ),
        st.builds(lambda left, right: left | right, inner, inner),
    ),
    max_leaves=3,
)


@dataclass
class Tally:
    """How often a filter and a document met, and how often they matched."""

    pairs: int = 0
    matched: int = 0
    mixed: int = 0
    filters: int = 0


def found_by_mongod(collection: Any, text: str) -> set[int]:
    return {found["_id"] for found in collection.find(json_util.loads(text, json_options=READ), {"_id": 1})}


EVERY_VALUE = [*SMALL, *NUMBERS, *OTHERS, *NEVER_IN_FILTERS, [], {}, [[]], [{}], {"b": {}}]
SHAPES = [
    lambda value: {"a": value},
    lambda value: {"a": [value]},
    lambda value: {"a": {"b": value}},
    lambda value: {"a": [{"b": value}, value], "b": value},
    lambda value: {"b": [[value], 1], "a": {"0": value}},
]
FIRST_DRAWN = 1_000


def prepared(database: Any) -> tuple[Any, list[dict[str, Any]]]:
    """A collection with every value in every shape, and these documents as decoded."""
    collection = database.get_collection("c", WRITTEN, write_concern=WriteConcern(1))
    fixed = [shape(value) for value in EVERY_VALUE for shape in SHAPES]
    assert len(fixed) < FIRST_DRAWN
    collection.insert_many([{"_id": number, **document} for number, document in enumerate(fixed)])
    return collection, read_back(collection, 0)


def add_drawn(collection: Any, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put these documents in the place of those drawn before; they come back as decoded."""
    collection.delete_many({"_id": {"$gte": FIRST_DRAWN}})
    collection.insert_many(
        [{"_id": number, **document} for number, document in enumerate(batch, FIRST_DRAWN)]
    )
    return read_back(collection, FIRST_DRAWN)


def read_back(collection: Any, first: int) -> list[dict[str, Any]]:
    raw = collection.with_options(RAW).find({"_id": {"$gte": first}})
    return [documents.decode(document.raw) for document in raw]


def check(collection: Any, ours: list[dict[str, Any]], text: str) -> int:
    """Both answers are the same, and the index keeps its promises; how many documents matched."""
    filter = Filter.parse(text)
    theirs = found_by_mongod(collection, text)
    as_asked = collection.find(RawBSONDocument(filter.query), {"_id": 1})
    assert {document["_id"] for document in as_asked} == theirs, "a snapshot would show other documents"
    mine = {document["_id"] for document in ours if filter.matches(document)}
    for document in ours:
        if (document["_id"] in theirs) != (document["_id"] in mine):
            pytest.fail(
                f"{'mongod' if document['_id'] in theirs else 'only we'} found {document} with {text}"
            )
        for path, keys in filter.equalities.items():
            if keys.isdisjoint(index_keys(document, path)):
                assert document["_id"] not in theirs, f"the index would miss {document} for {text}"
        if filter.only_about_id:
            assert filter.matches({"_id": document["_id"]}) == (document["_id"] in theirs)
    return len(mine)


def test_every_answer_is_the_one_that_mongod_gives(database):
    collection, fixed = prepared(database)
    tally = Tally()

    @differential
    @given(st.lists(whole_documents, min_size=1, max_size=10), st.lists(queries, min_size=12, max_size=20))
    def compare(batch, drawn):
        ours = fixed + add_drawn(collection, batch)
        for query in drawn:
            matched = check(collection, ours, json.dumps(query))
            tally.filters += 1
            tally.mixed += 0 < matched < len(ours)
            tally.matched += matched
            tally.pairs += len(ours)

    compare()
    assert tally.pairs > 100_000
    assert 0.1 < tally.matched / tally.pairs < 0.9, tally
    assert tally.mixed / tally.filters > 0.4, tally


# One row for each thing that a matcher easily gets wrong: a filter, what it finds, what it does not.
# The same rows go to mongod, which confirms them.
MISSING = object()
ROWS = [
    ("a boolean is not a number", {"$eq": 1}, [1, 1.0, Int64(1), Decimal128("1.0"), [1]], [True, "1", [[1]]]),
    ("a number is not a boolean", {"$eq": True}, [True], [1, 1.0]),
    ("false is not zero", {"$in": [0]}, [0, -0.0, Decimal128("-0")], [False, "", None]),
    ("integers are exact", {"$eq": {"$numberLong": "9007199254740993"}},
     [Int64(2**53 + 1), Decimal128("9007199254740993")], [2.0**53, Int64(2**53)]),
    ("doubles are what they are", 0.1, [0.1], [Decimal128("0.1")]),
    ("decimals are exact", {"$gt": {"$numberDecimal": "0.1"}}, [0.1, 1], [Decimal128("0.10"),
     Decimal128("0.0")]),
    ("NaN equals NaN", {"$numberDouble": "NaN"}, [math.nan, Decimal128("NaN")], [0, None, math.inf]),
    ("NaN is below nothing", {"$lt": 5}, [1, -math.inf], [math.nan, Decimal128("NaN"), None]),
    ("NaN is at most NaN", {"$lte": {"$numberDouble": "NaN"}}, [math.nan], [1, -math.inf]),
    ("NaN in an object is the least number", {"$lt": {"b": 5}}, [{"b": math.nan}, {"b": 1}], [{"b": 6}]),
    ("null in an object equals null", {"$gte": {"b": None}}, [{"b": None}, {"b": 1}], [{}, None]),
    ("null in an array equals null", {"$lte": [None, 1]}, [[None, 1], [None], []], [[None, 2], [1]]),
    ("ranges stay in a type", {"$gt": 1}, [2, Decimal128("1.5")], ["2", True, utc(2026, 1, 1), None, {},
     [[2]]]),
    ("ranges of text by bytes", {"$gt": "\uffee"}, ["\U0001f600"], ["\uffee", "z", ""]),
    ("null is what is missing", None, [None, MISSING, [1, None]], [0, "", [], {}]),
    ("not null is what is there", {"$ne": None}, [0, "", [], {}], [None, MISSING, [None]]),
    ("at least null is null", {"$gte": None}, [None, MISSING], [0]),
    ("nothing is above null", {"$gt": None}, [], [None, MISSING, 0]),
    ("null exists", {"$exists": True}, [None, 0, []], [MISSING]),
    ("not equal means no element is", {"$ne": 1}, [2, [2, 3], [], MISSING], [1, [1, 2]]),
    ("not in means no element is", {"$nin": [1, None]}, [2, [2, 3], []], [1, [1, 2], MISSING]),
    ("not denies the whole", {"$not": {"$gt": 1, "$lt": 5}}, [1, 9, "x", MISSING], [3, [0, 9]]),
    ("an array as a whole", {"$eq": [1, 2]}, [[1, 2], [[1, 2]], [1.0, Int64(2)]], [[2, 1], [1], 1]),
    ("order of keys counts", {"b": 1, "c": 2}, [{"b": 1.0, "c": 2}], [{"c": 2, "b": 1}, {"b": 1}]),
    ("names in objects count", {"b": 1}, [{"b": 1}], [{"c": 1}, {"b": 1, "c": 1}]),
    ("types in objects count first", {"$lt": {"b": "x"}}, [{"c": 1}, {"b": 9}, {}], [{"a": True},
     {"b": "y"}]),
    ("arrays by their elements", {"$gt": [1, 2]}, [[1, 3], [1, 2, 0], [["x"]], ["a"]], [[1], [1, 2], 5]),
    ("size is of arrays", {"$size": 1}, [[1], [[1, 2]]], [1, "x", [], [1, 2], MISSING]),
    ("all of one value", {"$all": [1]}, [1, [1, 2]], [2, [[1, 2]]]),
    ("all of an array", {"$all": [[1, 2]]}, [[1, 2], [[1, 2]]], [[1], [2, 1]]),
    ("all of nothing", {"$all": []}, [], [1, [], MISSING]),
    ("all with elements", {"$all": [{"$elemMatch": {"$gt": 1}}, {"$elemMatch": {"b": 1}}]},
     [[2, {"b": 1}]], [[2], [{"b": 1}], 2]),
    ("one element meets all", {"$elemMatch": {"$gt": 1, "$lt": 5}}, [[3], [0, 3]], [3, [0, 9], [[3]]]),
    ("an inner array has numbers for names", {"$elemMatch": {"0": 1}}, [[[1, 2]], [{"0": 1}]], [[1], [[2,
     1]]]),
    ("an element without the field", {"$elemMatch": {"b": None}}, [[{}], [[]], [{"b": None}]], [[1], [], {}]),
    ("any document among the elements", {"$elemMatch": {}}, [[{}], [[]]], [[1], {}]),
    ("the type of an element", {"$type": "int"}, [1, [1, "x"]], [Int64(1), 1.0, True, [[1]]]),
    ("the type of an array", {"$type": "array"}, [[], [1]], [1, {}]),
    ("types of numbers", {"$type": ["number", 8]}, [1, 1.5, Int64(1), Decimal128("1"), True], ["1", None]),
    ("a type is not missing", {"$type": "null"}, [None, [None]], [MISSING]),
    ("code with and without a scope", {"$type": 15}, [Code("x", {"a": 1})], [Code("x"), "x"]),
    ("remainders of negatives", {"$mod": [3, -1]}, [-7, -1, -4.9, Decimal128("-7.5")], [7, 2, "x"]),
    ("remainders cut fractions", {"$mod": [4.9, 1.9]}, [5, 5.9, Decimal128("1.99")], [math.nan, math.inf, 4]),
    ("remainders within 64 bits", {"$mod": [2, 0]}, [Int64(-(2**63)), -(2.0**63)], [2.0**63,
     Decimal128("1E+6144")]),
    ("binary by length, then subtype", {"$gt": {"$binary": {"base64": "eno=", "subType": "00"}}},
     [Binary(b"ab", 5), Binary(b"abcdef", 0), UUID(int=1)], [Binary(b"ab", 0), Binary(b"zz", 0), "zzz"]),
    ("old binary data has its length in it twice", {"$gt": {"$binary": {"base64": "YWI=", "subType": "02"}}},
     [Binary(b"abcdefg", 0), Binary(b"abc", 2)], [Binary(b"abcde", 0), Binary(b"ab", 2)]),
    ("a UUID is not the old kind", {"$uuid": str(UUID(int=1))},
     [UUID(int=1)], [Binary(UUID(int=1).bytes, 3), Binary(UUID(int=1).bytes, 0)]),
    ("dates before 1970", {"$lt": {"$date": "1970-01-01T00:00:00Z"}},
     [utc(1969, 12, 31, 23, 59, 59, 999000), utc(1, 1, 1), DatetimeMS(-(2**60))], [utc(1970, 1, 1), -1]),
    ("dates beyond the year 9999", {"$gt": {"$date": "9999-12-31T23:59:59.999Z"}}, [DatetimeMS(2**60)],
     [2**60]),
    ("dates with an offset", {"$date": "2026-11-22T07:10:00.123+01:00"}, [utc(2026, 11, 22, 6, 10, 0,
     123000)], []),
    ("timestamps are no dates", {"$gt": {"$timestamp": {"t": 1, "i": 1}}},
     [Timestamp(1, 2), Timestamp(2, 0)], [Timestamp(1, 1), utc(2026, 1, 1)]),
    ("everything is above the least", {"$gt": {"$minKey": 1}}, [None, 1, [], MISSING, MaxKey()], [MinKey()]),
    ("the least is below all", {"$lte": {"$minKey": 1}}, [MinKey(), [MinKey()]], [None, MISSING]),
    ("an object like a reference", {"$exists": True}, [DBRef("c", 1)], []),
    ("a reference is an object", {"$type": 3}, [DBRef("c", 1), {}], [[]]),
]  # fmt: skip

DEEP_ROWS = [
    ({"a.b": 1}, [{"a": {"b": 1}}, {"a": [{"b": 1}]}, {"a": [{"b": [1]}]}], [{"a": [[{"b": 1}]]}, {"a": 1}]),
    (
        {"a.b": None},
        [{}, {"a": 1}, {"a": {}}, {"a": [{}]}, {"a": [1, {}]}],
        [{"a": []}, {"a": [1]}, {"a": {"b": 0}}],
    ),
    (
        {"a.b": {"$exists": False}},
        [{"a": []}, {"a": [1]}, {"a": 1}],
        [{"a": {"b": None}}, {"a": [1, {"b": 0}]}],
    ),
    (
        {"a.0": 1},
        [{"a": [1, 2]}, {"a": {"0": 1}}, {"a": [2, {"0": 1}]}],
        [{"a": [2, 1]}, {"a": [[1]]}, {"a": 1}],
    ),
    ({"a.00": 1}, [{"a": {"00": 1}}], [{"a": [1]}]),
    (
        {"a.0.b": 1},
        [{"a": [{"b": 1}]}, {"a": [[{"b": 1}]]}, {"a": [{"0": {"b": 1}}]}],
        [{"a": [2, {"b": 1}]}],
    ),
    ({"a.0.0": 1}, [{"a": [[1]]}, {"a": {"0": [1]}}], [{"a": [1]}, {"a": [[[1]]]}]),
    ({"a.0": {"$size": 1}}, [{"a": [[5]]}], [{"a": [5]}]),
    ({"a.$id": 1}, [{"a": DBRef("c", 1)}, {"a": [DBRef("c", 1)]}], [{"a": DBRef("c", 2)}]),
    ({"a.b": {"$elemMatch": {"c": 1}}}, [{"a": [{"b": [{"c": 1}]}]}], [{"a": {"b": {"c": 1}}}]),
    ({"$nor": [{"a": 1}, {"b": 1}]}, [{}, {"a": 2}], [{"a": [1]}, {"b": 1}]),
    ({"$or": [{"a": 1}, {"b": 1}], "c": 1}, [{"a": 1, "c": 1}], [{"a": 1}, {"c": 1}]),
    ({"_id.k": 1}, [{"_id": {"k": 1}}], [{"_id": {"k": 2}}, {"_id": 1}]),
    ({}, [{}, {"a": 1}], []),
]


def agree(database, query, found, not_found):
    collection = database.get_collection("rows", WRITTEN, write_concern=WriteConcern(1))
    for expected, group in ((True, found), (False, not_found)):
        for document in group:
            collection.delete_many({})
            collection.insert_one(dict(document))
            (ours,) = read_back(collection, MinKey())
            text = json.dumps(query)
            assert Filter.parse(text).matches(ours) is expected, document
            theirs = collection.count_documents(json_util.loads(text, json_options=READ))
            assert bool(theirs) is expected, f"mongod sees {document} otherwise"


@pytest.mark.parametrize(("title", "condition", "found", "not_found"), ROWS, ids=[row[0] for row in ROWS])
def test_a_value_is_found_as_mongod_finds_it(database, title, condition, found, not_found):
    as_documents = [
        [{} if value is MISSING else {"a": value} for value in group] for group in (found, not_found)
    ]
    agree(database, {"a": condition}, *as_documents)


@pytest.mark.parametrize(
    ("query", "found", "not_found"), DEEP_ROWS, ids=[json.dumps(row[0]) for row in DEEP_ROWS]
)
def test_a_path_leads_where_mongod_goes(database, query, found, not_found):
    agree(database, query, found, not_found)


REFUSED = [
    ("", "filter is not JSON: Expecting value at character 0"),
    ("{", "filter is not JSON: "),
    ("[]", "an object is needed at filter"),
    ("1", "an object is needed at filter"),
    ('{"a":1,"a":2}', "the name a appears twice in one object of filter"),
    ('{"a":{"$gt":1,"$gt":2}}', "the name $gt appears twice in one object of filter"),
    ('{"a":NaN}', 'NaN is not JSON; write {"$numberDouble": "NaN"}'),
    ('{"a":1e999}', "1e999 is too large for a number"),
    ('{"a":9223372036854775808}', "9223372036854775808 is beyond 64 bits at filter.a"),
    ('{"a":"\\ud800"}', "a string in filter contains a lone surrogate"),
    ('{"a\\u0000":1}', "a name in filter contains a NUL character"),
    ('{"$and":[{},{"$where":"1"}]}', "unknown operator $where at filter.$and[1]"),
    ('{"$expr":{}}', "unknown operator $expr at filter"),
    ('{"$text":{}}', "unknown operator $text at filter"),
    ('{"$comment":""}', "unknown operator $comment at filter"),
    ('{"$jsonSchema":{}}', "unknown operator $jsonSchema at filter"),
    ('{"$not":{"a":1}}', "unknown operator $not at filter"),
    ('{"a":{"$regex":"x"}}', "unknown operator $regex at filter.a"),
    ('{"a":{"$regularExpression":{"pattern":"x","options":""}}}',
     "unknown operator $regularExpression at filter.a"),
    ('{"a":{"$not":{"$regex":"x"}}}', "unknown operator $regex at filter.a.$not"),
    ('{"a":{"$elemMatch":{"$where":"1"}}}', "unknown operator $where at filter.a.$elemMatch"),
    ('{"a":{"$elemMatch":{"b":1,"$gt":2}}}', "unknown operator $gt at filter.a.$elemMatch"),
    ('{"a":{"$gt":1,"b":2}}', "unknown operator b at filter.a"),
    ('{"a":{"b":{"$gt":1}}}', "$gt is not allowed in a value at filter.a.b"),
    ('{"a":{"$in":[1,{"$gt":1}]}}', "$gt is not allowed in a value at filter.a.$in[1]"),
    ('{"a":{"$in":1}}', "an array is needed at filter.a.$in"),
    ('{"$or":[]}', "at least one object is needed at filter.$or"),
    ('{"$or":[1]}', "an object is needed at filter.$or[0]"),
    ('{"a":{"$not":{}}}', "an object with operators is needed at filter.a.$not"),
    ('{"a":{"$exists":"no"}}', "true or false is needed at filter.a.$exists"),
    ('{"a":{"$type":"whole"}}', "unknown type whole at filter.a.$type"),
    ('{"a":{"$type":6}}', "unknown type 6 at filter.a.$type"),
    ('{"a":{"$type":[]}}', "at least one type is needed at filter.a.$type"),
    ('{"a":{"$type":true}}', "a whole number is needed at filter.a.$type"),
    ('{"a":{"$size":-1}}', "a whole number from 0 to 2,147,483,647 is needed at filter.a.$size"),
    ('{"a":{"$size":4294967296}}', "a whole number from 0 to 2,147,483,647 is needed at filter.a.$size"),
    ('{"a":{"$size":1.5}}', "a whole number is needed at filter.a.$size"),
    ('{"a":{"$mod":[0.5,1]}}', "a divisor other than 0 is needed at filter.a.$mod[0]"),
    ('{"a":{"$mod":[2]}}', "a divisor and a remainder are needed at filter.a.$mod"),
    ('{"a":{"$mod":[2,"x"]}}', "a number within 64 bits is needed at filter.a.$mod[1]"),
    ('{"a":{"$all":[{"$elemMatch":{}},5]}}', "$elemMatch cannot be mixed with values at filter.a.$all[1]"),
    ('{"a..b":1}', "an empty name in the path at filter.a..b"),
    ('{"a":{"$oid":"5bfef740419aeed958bbfa1"}}', "not a valid $oid at filter.a"),
    ('{"a":{"$oid":"aabbccddeeff0011223344  "}}', "not a valid $oid at filter.a"),
    ('{"a":{"$date":"yesterday"}}', "not a valid $date at filter.a"),
    ('{"a":{"$date":"2026-11-22T06:10:00"}}', "not a valid $date at filter.a"),
    ('{"a":{"$date":"2026-02-30T06:10:00Z"}}', "not a valid $date at filter.a"),
    ('{"a":{"$date":"0001-01-01T00:00:00+23:59"}}', "not a valid $date at filter.a"),
    ('{"a":{"$date":"9999-12-31T23:59:59-23:59"}}', "not a valid $date at filter.a"),
    ('{"a":{"$date":{}}}', "not a valid $date at filter.a"),
    ('{"a":{"$date":{"$numberInt":"1"}}}', "not a valid $date at filter.a"),
    ('{"a":{"$date":{"$numberLong":"1","x":1}}}', "not a valid $date at filter.a"),
    ('{"a":{"$date":{"$numberLong":1}}}', "not a valid $date at filter.a"),
    ('{"a":{"$numberInt":"2147483648"}}', "not a valid $numberInt at filter.a"),
    ('{"a":{"$numberLong":"1.5"}}', "not a valid $numberLong at filter.a"),
    ('{"a":{"$numberLong":5}}', "not a valid $numberLong at filter.a"),
    ('{"a":{"$numberDecimal":"1E+9999"}}', "not a valid $numberDecimal at filter.a"),
    ('{"a":{"$numberDouble":"1_0"}}', "not a valid $numberDouble at filter.a"),
    ('{"a":{"$binary":{"base64":"!","subType":"00"}}}', "not a valid $binary at filter.a"),
    ('{"a":{"$binary":[]}}', "not a valid $binary at filter.a"),
    ('{"a":{"$binary":{}}}', "not a valid $binary at filter.a"),
    ('{"a":{"$binary":{"base64":"YQ=="}}}', "not a valid $binary at filter.a"),
    ('{"a":{"$binary":{"subType":"00"}}}', "not a valid $binary at filter.a"),
    ('{"a":{"$binary":{"base64":"YQ==","subtype":"00"}}}', "not a valid $binary at filter.a"),
    ('{"a":{"$binary":{"base64":"YQ==","subType":"00","x":1}}}', "not a valid $binary at filter.a"),
    ('{"a":{"$binary":{"base64":["YQ=="],"subType":"00"}}}', "not a valid $binary at filter.a"),
    ('{"a":{"$binary":"YQ=="}}', "not a valid $binary at filter.a"),
    ('{"a":{"$binary":"YQ==","$type":"00"}}', "unknown operator $binary at filter.a"),
    ('{"a":{"$uuid":"1"}}', "not a valid $uuid at filter.a"),
    ('{"a":{"$timestamp":{"t":-1,"i":0}}}', "not a valid $timestamp at filter.a"),
    ('{"a":{"$timestamp":{}}}', "not a valid $timestamp at filter.a"),
    ('{"a":{"$timestamp":{"t":1}}}', "not a valid $timestamp at filter.a"),
    ('{"a":{"$timestamp":{"i":1}}}', "not a valid $timestamp at filter.a"),
    ('{"a":{"$timestamp":{"t":1,"I":1}}}', "not a valid $timestamp at filter.a"),
    ('{"a":{"$timestamp":{"t":1,"i":1,"x":1}}}', "not a valid $timestamp at filter.a"),
    ('{"a":{"$timestamp":{"t":1,"i":true}}}', "not a valid $timestamp at filter.a"),
    ('{"a":{"$timestamp":[1,1]}}', "not a valid $timestamp at filter.a"),
    ('{"a":{"$timestamp":null}}', "not a valid $timestamp at filter.a"),
    ('{"a":{"$in":[{"$timestamp":{"t":1}}]}}', "not a valid $timestamp at filter.a.$in[0]"),
    ('{"a":{"$oid":{}}}', "not a valid $oid at filter.a"),
    ('{"a":{"$oid":"5bfef740419aeed958bbfa1b","x":1}}', "unknown operator $oid at filter.a"),
    ('{"a":[{"$oid":"5bfef740419aeed958bbfa1b","x":1}]}',
     "$oid is not allowed in a value at filter.a[0]"),
    ('{"a":{"$minKey":true}}', "not a valid $minKey at filter.a"),
    ('{"a":{"$maxKey":{}}}', "not a valid $maxKey at filter.a"),
    ('{"a\\nb":{"$x":1}}', "unknown operator $x at filter.a\\nb"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[text for text, _ in REFUSED])
def test_a_refusal_says_what_is_wrong_and_where(text, message):
    with pytest.raises(InvalidFilter) as refused:
        Filter.parse(text)
    assert str(refused.value) == message or (message.endswith(" ") and message in str(refused.value))
    assert refused.value.code == "invalid-filter"


# Text that looks like a filter gets further than text of any kind.
pieces = st.sampled_from([
    "{", "}", "[", "]", ":", ",", '"a"', '"a.0"', "1", "-1e400", "null", "true", "NaN", '"$gt"', '"$in"',
    '"$and"',
    '"$not"', '"$elemMatch"', '"$oid"', '"$date"', '"$numberLong"', '"$numberDecimal"', '"$mod"', '"$type"',
    '"$where"',
    '"\\ud800"', '"\\u0000"', "\ud800", " ", '"1"', "{}", "[]",
])  # fmt: skip
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from([
            "a", "a.b", "", ".", "$and", "$or", "$nor", *OPERATORS, "$where", "$regex", "$oid", "$date",
            "$numberInt",
            "$numberLong", "$numberDouble", "$numberDecimal", "$uuid", "$binary", "base64", "subType",
            "$timestamp",
            "t", "i", "$minKey",
        ]),
        inner,
        max_size=3,
    ),
    max_leaves=12,
)  # fmt: skip


def parsed(text: str) -> tuple[str, Filter | None]:
    try:
        return "", Filter.parse(text)
    except InvalidFilter as refusal:
        return str(refusal), None


@settings(max_examples=800, derandomize=not EXAMPLES, database=None, deadline=None)
@given(st.text() | st.lists(pieces, max_size=25).map("".join) | anything.map(json.dumps))
@example("[" * MAX_BYTES)
@example('{"a":' * 800)
@example("9" * MAX_BYTES)
@example('{"a":' + "9" * 4000 + "}")
@example("\ufeff{}")
def test_any_text_is_a_filter_or_is_refused(text):
    refusal, filter = parsed(text)
    if filter is None:
        assert refusal.isprintable()
        assert len(refusal) < 500
    else:
        for document in ({}, {"a": [{"b": 1}, 2]}, {"a": {"b": None}}):
            assert filter.matches(document) in (True, False)
        assert hash(filter) == hash(Filter.parse(text))


def inside(opening: str, closing: str, times: int, middle: str) -> str:
    return opening * times + middle + closing * times


def test_bounds_are_what_they_say():
    Filter.parse('{"a":"' + "x" * (MAX_BYTES - 8) + '"}')
    with pytest.raises(InvalidFilter, match="filter has 4,097 bytes, more than 4,096"):
        Filter.parse('{"a":"' + "x" * (MAX_BYTES - 7) + '"}')
    with pytest.raises(InvalidFilter, match="bytes, more than"):
        Filter.parse('{"a":"' + "é" * (MAX_BYTES // 2) + '"}')
    Filter.parse('{"a":' + inside('{"$not":', "}", MAX_DEPTH - 2, '{"$gt":1}') + "}")
    with pytest.raises(InvalidFilter, match="nested more than 50 deep"):
        Filter.parse('{"a":' + inside('{"$not":', "}", MAX_DEPTH - 1, '{"$gt":1}') + "}")
    with pytest.raises(InvalidFilter, match="nested more than 50 deep"):
        Filter.parse('{"a":' + inside("[", "]", MAX_DEPTH, "") + "}")
    Filter.parse(json.dumps({"a": {"$in": list(range(MAX_NODES - 3))}}))
    with pytest.raises(InvalidFilter, match="more than 250 values"):
        Filter.parse(json.dumps({"a": {"$in": list(range(MAX_NODES - 2))}}))
    with pytest.raises(InvalidFilter, match="a path of more than 50 names"):
        Filter.parse(json.dumps({".".join("a" * 51): 1}))
    Filter.parse(json.dumps({"a": {"$in": [{"$oid": format(number, "024x")} for number in range(100)]}}))


HOSTILE = {
    "brackets": "[" * MAX_BYTES,
    "objects": '{"a":' * 819,
    "a deep value": '{"a":' + inside("[", "]", MAX_DEPTH - 1, "") + "}",
    "deep denial": '{"a":' + inside('{"$not":', "}", MAX_DEPTH - 2, '{"$gt":1}') + "}",
    "deep elements": '{"a":' + inside('{"$elemMatch":{"a":', "}}", 24, "1") + "}",
    "deep alternatives": inside('{"$or":[', "]}", 24, '{"a":1}'),
    "many alternatives": json.dumps({"$or": [{"a": {"$gt": number}} for number in range(80)]}),
    "many values": json.dumps({"a": {"$nin": list(range(MAX_NODES - 3))}}),
    "huge numbers": json.dumps(
        {"a": {"$in": [{"$numberDecimal": "1E+6144"}, {"$numberDecimal": "9E-6143"}] * 40}}
    ),
    "many digits": '{"a":' + "9" * (MAX_BYTES - 6) + "}",
    "a long text": json.dumps({"a": {"$gt": "x" * (MAX_BYTES - 30)}}),
    "long names": json.dumps({"a" * 2_000: {"$" * 2_000: 1}}),
    "escapes": '{"a":"' + "\\u0000" * 680 + '"}',
    "a long path": json.dumps({".".join(["a"] * MAX_DEPTH): 1}),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_filter_costs_a_few_milliseconds(text):
    deep: dict[str, Any] = {}
    for _ in range(50):
        deep = {"a": [deep, 1, "x"]}

    def cost() -> float:
        start = time.process_time()
        _, filter = parsed(text)
        if filter is not None:
            filter.matches(deep)
            filter.matches({"a": list(range(50))})
        return time.process_time() - start

    # The least of a few: what the machine does besides is not the filter's cost.
    assert min(cost() for _ in range(5)) < 0.02


@pytest.mark.parametrize(
    "texts",
    [
        ['{"a": 1, "b": 2}', '{"b":2,"a":1}', '{"a":{"$eq":1},"b":2.0}', '{"$and":[{"b":2},{"a":1}]}'],
        ['{"a":{"$in":[1,2]}}', '{"a":{"$in":[2,1,1]}}', '{"a":{"$in":[2.0,{"$numberLong":"1"}]}}'],
        ['{"a":5}', '{"a":{"$in":[5]}}', '{"$or":[{"a":5}]}', '{"a":{"$all":[5]}}'],
        ['{"a":{"$gt":1,"$lt":5}}', '{"a":{"$lt":5,"$gt":1}}', '{"$and":[{"a":{"$gt":1}},{"a":{"$lt":5}}]}'],
        ['{"a":{"$ne":1}}', '{"a":{"$not":{"$eq":1}}}', '{"a":{"$nin":[1]}}', '{"$nor":[{"a":1}]}'],
        ['{"a":{"$exists":false}}', '{"a":{"$exists":0}}', '{"a":{"$not":{"$exists":true}}}'],
        ['{"a":{"$type":"int"}}', '{"a":{"$type":16}}', '{"a":{"$type":["int"]}}'],
        ['{"a":{"$uuid":"00000000-0000-0000-0000-000000000001"}}',
         '{"a":{"$binary":{"base64":"AAAAAAAAAAAAAAAAAAAAAQ==","subType":"4"}}}'],
        ['{"a":{"$date":"1970-01-01T00:00:01Z"}}', '{"a":{"$date":{"$numberLong":"1000"}}}',
        '{"a":{"$date":1000}}'],
        ['{"a":{"$numberDouble":"NaN"}}', '{"a":{"$numberDecimal":"NaN"}}'],
        ["{}", ' { } ', '{"$and":[{}]}'],
    ],
)  # fmt: skip
def test_what_means_the_same_is_equal(texts):
    assert len({Filter.parse(text) for text in texts}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a":1}', '{"a":true}'),
        ('{"a":0}', '{"a":false}'),
        ('{"a":1}', '{"a":"1"}'),
        ('{"a":1}', '{"b":1}'),
        ('{"a":{"b":1,"c":2}}', '{"a":{"c":2,"b":1}}'),
        ('{"a":[1,2]}', '{"a":[2,1]}'),
        ('{"a":{"$gt":1}}', '{"a":{"$gte":1}}'),
        ('{"a":{"$elemMatch":{"$eq":1}}}', '{"a":1}'),
        ('{"a":{"$size":1}}', '{"a":{"$type":1}}'),
        ('{"a":{"$numberDecimal":"0.1"}}', '{"a":0.1}'),
        ('{"a":{"$date":0}}', '{"a":0}'),
        ('{"a":{"$all":[1,2]}}', '{"a":{"$in":[1,2]}}'),
        ('{"$or":[{"a":1},{"b":1}]}', '{"a":1,"b":1}'),
        ("{}", '{"$nor":[{}]}'),
    ],
)
def test_what_means_something_else_is_not_equal(one, other):
    assert Filter.parse(one) != Filter.parse(other)


def test_equalities_are_those_that_an_index_can_look_up():
    def paths(text):
        return set(Filter.parse(text).equalities)

    assert paths('{"owner":5,"b.c":{"$in":["x","y"]},"d":{"$gt":1}}') == {"owner", "b.c"}
    assert paths('{"$and":[{"a":1},{"$and":[{"b":true}]}],"$or":[{"c":1},{"d":1}]}') == {"a", "b"}
    assert paths('{"a":null,"b":{"$in":[1,null]},"c":[1],"d":{"e":1},"f":{"$minKey":1}}') == set()
    assert (
        paths('{"a":{"$ne":1},"b":{"$not":{"$eq":1}},"$nor":[{"c":1}],"d":{"$elemMatch":{"$eq":1}}}') == set()
    )
    assert Filter.parse('{"a":{"$all":[1,2],"$in":[1,2,3]}}').equalities["a"] in ({(10, 1)}, {(10, 2)})
    assert Filter.parse('{"a":{"$in":[]}}').equalities == {"a": frozenset()}


def test_index_keys_are_all_that_could_be_equal():
    one = Filter.parse('{"a.b":1}').equalities["a.b"]
    for value in (1, 1.0, Int64(1), Decimal128("1.00")):
        for document in ({"a": {"b": value}}, {"a": [{"c": 2}, {"b": [5, value]}]}):
            assert one <= index_keys(document, "a.b")
    assert one.isdisjoint(index_keys({"a": {"b": True}}, "a.b"))
    assert index_keys({"a": [1, "x", [2], {"b": 3}]}, "a") == {(10, 1), (15, "x")}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("{}", True),
        ('{"_id":1}', True),
        ('{"_id":{"$in":[1,2]}}', True),
        ('{"_id.k":1,"$or":[{"_id":{"$gt":1}},{"_id.l":2}]}', True),
        ('{"_id":1,"a":1}', False),
        ('{"_idea":1}', False),
        ('{"$nor":[{"_id":1},{"a":{"$elemMatch":{"b":1}}}]}', False),
    ],
)
def test_a_filter_knows_whether_the_id_alone_decides(text, answer):
    assert Filter.parse(text).only_about_id is answer
