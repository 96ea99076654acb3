"""Orders of a window: what is refused, and how documents compare."""

from __future__ import annotations

import bson
import pytest
from bson import Decimal128, MaxKey, MinKey, ObjectId

from brook.errors import InvalidParameter
from brook.query import Sort

ASCENDING = [
    MinKey(), [], None, float("nan"), -1, Decimal128("1"), 1.5, [3, 2], "", "a", "b", {}, {"a": 1}, [[1]],
    ObjectId(b"0" * 12), False, True, MaxKey(),
]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "1", '{"a":2}', '{"a":true}', '{"a":1.0}', '{"a":1,"a":1}', '{"$a":1}', '{"a..b":1}',
     '{"":1}', '{"\\ud806":1}', "{" * 2000, '{"a":{"$meta":"textScore"}}'],
)  # fmt: skip
def test_order_that_is_none_is_refused(text):
    with pytest.raises(InvalidParameter, match="sort"):
        Sort.parse(text)


def test_documents_compare_as_mongodb_compares_them():
    documents = [{"_id": number, "a": value} for number, value in enumerate(ASCENDING)]
    backwards = documents[::-1]
    assert sorted(backwards, key=Sort.parse('{"a":1}').place) == documents
    down = sorted(documents, key=Sort.parse('{"a":-1}').place)
    # Descending, an array counts by its highest value.
    assert [each["_id"] for each in down if each["_id"] != 7] == [n for n in range(17, -1, -1) if n != 7]


def test_ties_are_broken_by_the_id_and_the_command_keeps_the_order():
    sort = Sort.parse('{"b":-1,"_id":-1}')
    assert list(bson.decode(sort.command).items()) == [("b", -1), ("_id", -1)]
    assert sort.place({"_id": 2}) < sort.place({"_id": 1})
    assert Sort.parse('{"b":1}').place({"_id": 1}) < Sort.parse('{"b":1}').place({"_id": 2, "b": None})
