"""A client that applies the events of a stream has a copy of the collection. mongomock is the collection."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brook.parameters import subscription
from tests.support.fakes import Client, Harness
from tests.support.pond import KNOWN, Pond, writes


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
