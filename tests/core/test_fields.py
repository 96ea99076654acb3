"""Which fields a client sees: what MongoDB's own projections show, and nothing more by what has changed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import bson
import pymongo
import pytest
from bson import Code, DBRef, ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brook.changes import documents
from brook.errors import InvalidParameter
from brook.query import Fields
from brook.query.fields import MAX_FIELDS

DOCUMENT = {
    "_id": 1, "type": "newt", "size": 3, "place": {"pond": 1, "at": {"x": 1, "y": 2}},
    "legs": [{"side": "left", "toes": [{"n": 1, "hurt": True}]}, 5, [{"side": "inner", "n": 1}, 6], {}],
}  # fmt: skip


# -- what is asked for -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ("type", {"_id": 1, "type": "newt"}),
        ("size,type", {"_id": 1, "type": "newt", "size": 3}),
        ("_id", {"_id": 1}),
        ("_id,type", {"_id": 1, "type": "newt"}),
        ("nothing", {"_id": 1}),
        ("type.deep", {"_id": 1}),
        ("place.at.x", {"_id": 1, "place": {"at": {"x": 1}}}),
        ("place.at.x,place.pond", {"_id": 1, "place": {"pond": 1, "at": {"x": 1}}}),
        ("place.no", {"_id": 1, "place": {}}),
        ("legs.side", {"_id": 1, "legs": [{"side": "left"}, [{"side": "inner"}], {}]}),
        ("legs.toes.n", {"_id": 1, "legs": [{"toes": [{"n": 1}]}, [{}], {}]}),
        ("legs.0", {"_id": 1, "legs": [{}, [{}], {}]}),
        ("-type,-place,-legs", {"_id": 1, "size": 3}),
        ("-nothing,-type.deep", DOCUMENT),
        ("-legs.toes.hurt,-legs.side,-place.at,-type", {
            "_id": 1, "size": 3, "place": {"pond": 1},
            "legs": [{"toes": [{"n": 1}]}, 5, [{"n": 1}, 6], {}],
        }),
        ("-legs.0", DOCUMENT),
    ],
)  # fmt: skip
def test_fields_that_are_shown(fields, shown):
    part = Fields.parse(fields).of(DOCUMENT)
    assert part == shown
    assert list(part) == [name for name in DOCUMENT if name in shown], "the order is the document's"


def test_order_and_repetition_of_names_mean_nothing():
    assert Fields.parse("a,b.c,a") == Fields.parse("b.c,a")
    assert hash(Fields.parse("-a,-b")) == hash(Fields.parse("-b,-a"))
    assert Fields.parse("a") != Fields.parse("-a")


@pytest.mark.parametrize(
    "text",
    ["", ",", "a,", "-", "-a,b", "a,-b", ".", "a.", ".a", "a..b", "$a", "a.$", "a$b", "a\0", "a,a.b",
     "a.b.c,a.b",
     "-a,-a.b", "-_id", "-_id.part", "-a,-_id.part.of", ",".join(map(str, range(MAX_FIELDS + 1)))],
    ids=lambda text: repr(text)[:20],
)  # fmt: skip
def test_what_is_no_list_of_fields_is_refused(text):
    with pytest.raises(InvalidParameter) as raised:
        Fields.parse(text)
    assert str(raised.value).startswith("fields")


def test_too_many_names_are_refused_before_they_are_compared_with_one_another():
    """Comparing those of a URL of 64 KB took 20 seconds, in which nobody else was served."""
    with pytest.raises(InvalidParameter, match=f"at most {MAX_FIELDS} names"):
        Fields.parse(",".join(["a", "a.b", *map(str, range(MAX_FIELDS))]))


def test_names_may_be_as_many_as_the_bound_and_of_any_letters():
    assert len(Fields.parse(",".join(map(str, range(MAX_FIELDS)))).names) == MAX_FIELDS
    assert Fields.parse("B\u00e4che,a b,a-b,--a".removesuffix(",--a")).names == {"B\u00e4che", "a b", "a-b"}


# -- against MongoDB -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def collection(sandbox) -> Iterator[Any]:
    """Documents as the bytes that MongoDB sends."""
    with pymongo.MongoClient(sandbox.uri) as client:
        yield client.fields.get_collection("fields", CodecOptions(document_class=RawBSONDocument))
        client.drop_database("fields")


NAMES = ["a", "b", "c", "0", "1", "long name"]
scalars = st.sampled_from(
    [0, 1.5, "x", None, True, ObjectId("5bfef740419aeed958bbfa1b"), b"x", Code("f"), math.inf]
)
keys = scalars.filter(lambda value: value is not None)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
    | st.builds(lambda key, more: DBRef("creatures", key, **more), keys,
                st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2))
    | st.builds(Code, st.just("f"), st.dictionaries(st.sampled_from(["a", "b"]), scalars, max_size=2)),
    max_leaves=10,
)  # fmt: skip
stored = st.dictionaries(st.sampled_from(NAMES), values, max_size=4)
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map(".".join) | st.just("_id")


def without_collisions(names: list[str]) -> list[str]:
    return [name for name in names if not any(other.startswith(name + ".") for other in names)]


wishes = st.lists(paths, min_size=1, max_size=4, unique=True).map(without_collisions)


@settings(deadline=None, max_examples=400)
@given(document=stored, names=wishes, excluding=st.booleans())
@example(document={"a": DBRef("creatures", 1, a=1, b=2)}, names=["a.b"], excluding=True)
@example(document={"a": DBRef("creatures", 1, a=1, b=2)}, names=["a.b"], excluding=False)
@example(document={"a": [[{"b": 1, "c": 2}, 3], 4]}, names=["a.b"], excluding=False)
@example(document={"a": {"0": {"b": 1}}, "b": [{"c": 1}]}, names=["a.0.b", "b.0.c"], excluding=True)
def test_what_is_shown_is_what_mongodb_projects(collection, document, names, excluding):
    if excluding:
        names = [name for name in names if name != "_id"] or ["c"]
    fields = Fields.parse(",".join("-" * excluding + name for name in names))
    collection.replace_one({"_id": 1}, document, upsert=True)
    whole = collection.find_one({"_id": 1})
    projected = collection.find_one({"_id": 1}, dict.fromkeys(names, 0 if excluding else 1))
    ours = fields.of(documents.decode(whole.raw))
    assert documents.to_ejson(ours) == documents.to_ejson(documents.decode(projected.raw))


# -- what an update has set ------------------------------------------------------------------------


def marked(value: Any, marks: Iterator[int]) -> Any:
    """The value with another number in the place of each scalar, by which it is known again."""
    if isinstance(value, dict):
        return {name: marked(item, marks) for name, item in value.items()}
    if isinstance(value, list):
        return [marked(item, marks) for item in value]
    return next(marks)


def leaves(value: Any) -> set[int]:
    inner = value.values() if isinstance(value, dict) else value
    return set().union(*map(leaves, inner)) if isinstance(value, (dict, list)) else {value}


def places(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted path into a document, with indexes into arrays, and what is there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield f"{path}{name}", item
        yield from places(item, f"{path}{name}.")


trees = st.recursive(
    st.just(0),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=12,
)
with_numbers = st.dictionaries(st.sampled_from(NAMES), trees, max_size=4)
without_numbers = with_numbers.filter(
    lambda document: not any(p for p, _ in places(document) if _named_as_index(document, p))
)


def _named_as_index(document: Any, path: str) -> bool:
    """Whether a field on the way, other than the first, has a name that might be an index."""
    value = document
    for depth, part in enumerate(path.split(".")):
        if isinstance(value, list):
            value = value[int(part)]
        else:
            if depth and part.isdigit():
                return True
            value = value[part]
    return False


plain_names = st.lists(
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map(".".join),
    min_size=1,
    max_size=3,
    unique=True,
).map(without_collisions)


@settings(deadline=None, max_examples=300)
@given(document=without_numbers, names=plain_names, excluding=st.booleans())
@example(document={"a": 0}, names=["a.b"], excluding=False)
@example(document={"a": [0, {"b": 0}]}, names=["a.b"], excluding=False)
def test_set_shows_exactly_what_the_document_shows(document, names, excluding):
    """Of an update that sets any place of the document, down to a single element of an array."""
    document = marked(document, iter(range(10**6)))
    fields = Fields.parse(",".join("-" * excluding + name for name in names))
    visible = leaves(fields.of(document))
    for path, value in places(document):
        shown = fields.of_paths({path: value})
        assert leaves(shown) == leaves(value) & visible, path
        if leaves(value) & visible:
            assert fields.shows(path), path
        elif leaves(value) and excluding:
            assert isinstance(value, (dict, list)) or not fields.shows(path), path


@settings(deadline=None, max_examples=300)
@given(document=with_numbers, names=wishes)
@example(document={"a": {"0": {"b": 0}}}, names=["a.0.b"])
@example(document={"a": [{"0": {"b": 0}}]}, names=["a.0.b"])
@example(document={"a": {"0": [{"1": 0}]}}, names=["a.0.1"])
def test_set_never_shows_what_is_excluded_even_where_a_name_may_be_an_index(document, names):
    """A path of MongoDB's does not say whether `0` is an index or a name."""
    document = marked(document, iter(range(10**6)))
    fields = Fields.parse(",".join("-" + name for name in names if name != "_id") or "-c")
    visible = leaves(fields.of(document))
    for path, value in places(document):
        assert leaves(fields.of_paths({path: value})) <= visible, path
        if fields.shows(path) and not isinstance(value, (dict, list)):
            assert leaves(value) <= visible, path


def test_id_of_the_document_is_always_told():
    fields = Fields.parse("type")
    assert fields.shows("_id")
    assert fields.of_paths({"_id": 1, "type": 2, "size": 3}) == {"_id": 1, "type": 2}


def test_projection_leaves_the_document_alone():
    copy = bson.decode(bson.encode(DOCUMENT))
    for text in ("legs.side", "-legs.side", "place", "-place.at.x"):
        part = Fields.parse(text).of(copy)
        assert copy == DOCUMENT
        part["more"] = 1
        assert "more" not in copy
