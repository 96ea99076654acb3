"""The orders of windows against a real MongoDB: every type of value, arrays and documents in one another."""

from __future__ import annotations

import datetime
import random
from typing import Any

import bson
import pytest
from bson import Binary, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure

from brook.changes import documents
from brook.query import Sort

ORDERS = [
    '{"a":1}', '{"a":-1}', '{"a.b":1}', '{"a.0":1}', '{"a.b":-1,"_id":-1}', '{"a.0.b":-1}',
    '{"a.b.a":1,"b":-1}',
]  # fmt: skip
PLAIN = [
    -1, 0, 1, 2, 1.5, -0.0, 2.0, float("nan"), float("inf"), Decimal128("1"), Decimal128("1.5"),
    Decimal128("NaN"), Int64(2**53), Int64(2**53 + 1), "", "a", "b", "a\u00e9", "\U0001f600", "\uffff",
    None, True, False,
    datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC),
    ObjectId(b"0" * 12), ObjectId(b"1" * 12), Timestamp(0, 1), Timestamp(1, 0), MinKey(), MaxKey(),
    Binary(b""), Binary(b"0", 5), Binary(b"00"), Regex("a"), Regex("a", "i"), Regex("b"),
]  # fmt: skip

# MongoDB refuses to sort an array of documents with fields that are named like its places ("ambiguous").
AMBIGUOUS = 16746


def some_value(dice: random.Random, depth: int = 0) -> Any:
    kind = dice.random() if depth < 3 else 1.0
    if kind < 0.1:
        return [some_value(dice, depth + 1) for _ in range(dice.randrange(4))]
    if kind < 0.2:
        names = dice.sample(["a", "b", "0", "1"], dice.randrange(3))
        return {name: some_value(dice, depth + 1) for name in names}
    return dice.choice(PLAIN)


@pytest.mark.parametrize("seed", range(20))
def test_documents_are_in_the_order_in_which_mongodb_sorts_them(database, seed):
    dice = random.Random(seed)
    written = [{"_id": number, "b": dice.randrange(3)} for number in range(60)]
    for document in written:
        if dice.random() < 0.9:
            document["a"] = some_value(dice)
    database.things.insert_many(written)
    raw = database.get_collection("things", codec_options=bson.CodecOptions(RawBSONDocument))
    decoded = [documents.decode(document.raw) for document in raw.find()]
    compared = 0
    for order in ORDERS:
        sort = Sort.parse(order)
        try:
            expected = list(
                database.things.find({}, {"_id": 1}).sort(list(bson.decode(sort.command).items()))
            )
        except OperationFailure as error:
            if error.code != AMBIGUOUS:
                raise
            continue
        assert [each["_id"] for each in sorted(decoded, key=sort.place)] == [each["_id"] for each in expected]
        compared += 1
    assert compared >= 4
