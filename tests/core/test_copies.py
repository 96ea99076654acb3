"""A client that applies the events of a stream has a copy of the collection. mongomock is the collection."""

from __future__ import annotations

import json
from typing import Any

import bson
import mongomock
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brook.changes.change import Change
from brook.changes.resume_token import event_id, event_key
from brook.namespaces import Namespaces
from brook.parameters import subscription
from tests.support.fakes import Client, Harness

KNOWN = Namespaces("pond", ["creatures"])
NS = {"db": "pond", "coll": "creatures"}

documents = st.fixed_dictionaries(
    {"type": st.sampled_from(["newt", "crawdad"]), "size": st.integers(0, 9)},
    optional={"mood": st.none() | st.text(max_size=3), "legs": st.lists(st.integers(0, 3), max_size=2)},
)
fields = st.dictionaries(
    st.sampled_from(["type", "size", "mood"]), st.integers(0, 9) | st.just("newt"), min_size=1
)
writes = st.tuples(
    st.sampled_from(["insert", "update", "replace", "delete"]), st.integers(0, 5), documents, fields
)


class Pond:
    """A collection, and the change events of the writes to it, as MongoDB would report them."""

    def __init__(self) -> None:
        self.creatures: Any = mongomock.MongoClient().pond.creatures
        self._written = 0

    def write(
        self, operation: str, id: int, document: dict[str, Any], changed: dict[str, Any]
    ) -> list[Change]:
        known = self.creatures.find_one({"_id": id})
        if (operation == "insert") == (known is not None):
            return []  # MongoDB refuses the one, and has nothing to do for the other
        event: dict[str, Any] = {"operationType": operation, "ns": NS, "documentKey": {"_id": id}}
        match operation:
            case "insert":
                self.creatures.insert_one({"_id": id, **document})
            case "replace":
                self.creatures.replace_one({"_id": id}, document)
            case "update":
                self.creatures.update_one({"_id": id}, {"$set": changed})
                event["updateDescription"] = {"updatedFields": changed, "removedFields": []}
            case "delete":
                self.creatures.delete_one({"_id": id})
                event["fullDocumentBeforeChange"] = known
        if operation != "delete":
            event["fullDocument"] = self.creatures.find_one({"_id": id})
        self._written += 1
        token = f"82{self._written:08X}0000000104"
        return [Change(event_id(token), operation, bson.encode(event), event_key(token, 0))]


def copy(client: Client) -> dict[int, Any]:
    """The documents of a page that puts each one in the place of the one with the same `_id`."""
    documents: dict[int, Any] = {}
    for event in client.heard():
        data = json.loads(event.data)
        if event.event == "delete":
            documents.pop(data["_id"], None)
        else:
            documents[data["_id"]] = data
    return documents


@settings(deadline=None)
@given(steps=st.lists(writes, max_size=30), together=st.integers(1, 5))
def test_copy_equals_the_collection(steps, together):
    pond, harness = Pond(), Harness()
    client = harness.connect()
    changes = [change for step in steps for change in pond.write(*step)]
    for start in range(0, len(changes), together):
        harness.publish(*changes[start : start + together])
    assert copy(client) == {each["_id"]: each for each in pond.creatures.find()}


@settings(deadline=None)
@given(steps=st.lists(writes, max_size=30), query=st.sampled_from([{"_id": 3}, {"_id": {"$in": [1, 2]}}]))
def test_filtered_copy_equals_find_where_nothing_can_leave_the_filter(steps, query):
    """A filter by `_id` alone. With other fields, only live mode tells of a document that leaves."""
    pond, harness = Pond(), Harness()
    wanted = subscription(KNOWN, None, {"filter": [json.dumps(query)]})
    client = harness.connect(subscription=wanted)
    for step in steps:
        harness.publish(*pond.write(*step))
    assert copy(client) == {each["_id"]: each for each in pond.creatures.find(query)}


@pytest.mark.parametrize("operation", ["update", "replace", "delete"])
def test_write_to_a_document_that_is_not_there_is_no_change(operation):
    assert Pond().write(operation, 1, {}, {"size": 1}) == []
