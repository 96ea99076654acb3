"""A filter as it is typed in mongosh: the error shows the JSON for it, and the JSON is accepted."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brook.errors import InvalidFilter
from brook.query.filter import Filter
from brook.query.mongosh import MAX_CHARACTERS, as_json

OID = "5bfef740419aeed958bbfa1b"


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("{done: false}", '{"done":false}'),
        ("{name: 'x'}", '{"name":"x"}'),
        ('{ "a" : 1, b: null, }', '{"a":1,"b":null}'),
        ("{size: {$gte: 1.5, $lt: -2e3}}", '{"size":{"$gte":1.5,"$lt":-2e3}}'),
        ("{$or: [{a: 1}, {'b.c': 2},]}", '{"$or":[{"a":1},{"b.c":2}]}'),
        ("{true: true}", '{"true":true}'),
        ("{nullable: 1}", '{"nullable":1}'),
        (f'{{_id: ObjectId("{OID}")}}', f'{{"_id":{{"$oid":"{OID}"}}}}'),
        (f"{{_id: new ObjectId('{OID}')}}", f'{{"_id":{{"$oid":"{OID}"}}}}'),
        (f'{{"_id": ObjectId("{OID}")}}', f'{{"_id":{{"$oid":"{OID}"}}}}'),
        ('{at: {$gt: ISODate("2026-11-22")}}', '{"at":{"$gt":{"$date":"2026-11-22T00:00:00.000Z"}}}'),
        ('{at: ISODate("2026-11-22T06:10:00+02:00")}', '{"at":{"$date":"2026-11-22T04:10:00.000Z"}}'),
        ("{at: new Date(0)}", '{"at":{"$date":"1970-01-01T00:00:00.000Z"}}'),
        ("{n: NumberLong(5)}", '{"n":{"$numberLong":"5"}}'),
        ('{n: NumberLong("5")}', '{"n":{"$numberLong":"5"}}'),
        ("{n: NumberDecimal('19.90')}", '{"n":{"$numberDecimal":"19.90"}}'),
        ("{n: NumberInt(5)}", '{"n":{"$numberInt":"5"}}'),
        (
            "{u: UUID('6f1e1a3c-9b7d-4c58-8a41-0f6d2b7c9e10')}",
            '{"u":{"$uuid":"6f1e1a3c-9b7d-4c58-8a41-0f6d2b7c9e10"}}',
        ),
        (r"{a: 'it\'s'}", '{"a":"it\'s"}'),
        ("{a: 'say \"x\"'}", r'{"a":"say \"x\""}'),
        (r"{a: 'say \"x\"'}", r'{"a":"say \"x\""}'),
        (r"{a: 'back\\slash'}", r'{"a":"back\\slash"}'),
        ("{ã: 1, 'ü': 'ß'}", None),
        ("{'ü': 'ß'}", '{"ü":"ß"}'),
    ],
)
def test_error_shows_the_json_of_a_filter_as_mongosh_takes_it(typed, written):
    assert as_json(typed) == written
    with pytest.raises(InvalidFilter) as refusal:
        Filter.parse(typed)
    assert str(refusal.value).startswith("filter is not JSON: ")
    if written is not None:
        assert str(refusal.value).endswith(f"; in JSON it is {written}")
        Filter.parse(written)


@pytest.mark.parametrize(
    "typed",
    [
        "", "{", "{a: }", "{a: /x/}", "{a: undefined}", "{a: NaN}", "{a: Math.random()}", "{a: ObjectId()}",
        "{a: Symbol('x')}", "{a: function() {}}", "{a: 1} // all", "{a: 'x}", "{a: '\\u12'}", "{a: 01}",
        "{a: ISODate('yesterday')}", "{a: new Date(99999999999999999999)}", "{a 1}", "{a: '\0'}", "{{}}",
        "{a: '\\u0000'", "a: 1", "{a: '\u202e'}",
    ],
)  # fmt: skip
def test_text_without_a_json_form_is_refused_without_a_guess(typed):
    assert as_json(typed) is None
    with pytest.raises(InvalidFilter) as refusal:
        Filter.parse(typed)
    assert "in JSON it is" not in str(refusal.value)


def test_long_filter_is_not_repeated():
    fits = "{a: '" + (MAX_CHARACTERS - len('{"a":""}')) * "x" + "'}"
    assert as_json(fits) is not None
    assert as_json(fits.replace("x", "xx", 1)) is None


HARD = ("[" * 4000, "{a:" * 1300, "'\\" * 2000, "new " * 1000, "A (" * 1300, "1" * 4000)


@pytest.mark.parametrize("hard", HARD)
def test_hard_text_is_read_quickly(hard):
    start = time.perf_counter()
    assert as_json(hard + "x") is None
    assert time.perf_counter() - start < 1


PIECES = [*"{}[]:,'\"\\$ab1-.() \n", "ObjectId", "new ", "true", "Date("]


@given(st.lists(st.sampled_from(PIECES), max_size=40))
def test_no_text_makes_the_reader_fail_or_show_something_that_is_no_json(pieces):
    written = as_json("".join(pieces))
    if written is not None:
        json.loads(written)
        assert "\n" not in written


TEXTS = st.text("ab '\"\\{}:,é", max_size=9)
LEAVES = st.none() | st.booleans() | st.integers(-999, 999) | TEXTS
NAMES = st.text("ab$", min_size=1, max_size=5)


def containers(inner):
    return st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)


@given(st.recursive(LEAVES, containers, max_leaves=9))
def test_names_without_quotes_and_texts_in_single_quotes_are_read_as_they_are_meant(value):
    def typed(value):
        if isinstance(value, dict):
            return "{" + ", ".join(f"{name}: {typed(inner)}" for name, inner in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(typed, value)) + "]"
        if isinstance(value, str):
            return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
        return json.dumps(value)

    written = as_json(typed(value))
    assert written is not None
    assert json.loads(written) == value
