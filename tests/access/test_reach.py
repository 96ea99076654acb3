"""A rule and one change: nothing of a document is told while it is out of reach."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import bson
import pytest
from bson import Timestamp

from brook.changes.change import Change
from brook.query import Filter
from brook.subscription import Format, Subscription
from tests.support.raw_client import Parser

MINE = Filter.parse('{"owner":"me"}')
ENVELOPE = Subscription(filter=MINE, rule=MINE, format=Format.ENVELOPE, before=True)
PLAIN = Subscription(filter=MINE, rule=MINE)


def change(operation: str, *, after: Any = None, before: Any = None, **description: Any) -> Change:
    event: dict[str, Any] = {
        "operationType": operation,
        "clusterTime": Timestamp(1795327419, 1),
        "ns": {"db": "shop", "coll": "orders"},
        "documentKey": {"_id": 1},
    }
    if after is not None:
        event["fullDocument"] = {"_id": 1, **after}
    if before is not None:
        event["fullDocumentBeforeChange"] = {"_id": 1, **before}
    if operation == "update":
        event["updateDescription"] = {"updatedFields": {}, "removedFields": [], **description}
    return Change("82AB", operation, bson.encode(event))


def heard(one: Change, subscription: Subscription = ENVELOPE) -> Any:
    events = Parser().feed(one.decode().frame(subscription))
    return [(event.event, json.loads(event.data)) for event in events]


def test_document_in_reach_is_told_whole():
    ((name, told),) = heard(
        change(
            "update", after={"owner": "me", "n": 2}, before={"owner": "me", "n": 1}, updatedFields={"n": 2}
        )
    )
    assert name == "update"
    assert told["changed"]["set"] == {"n": 2}
    assert told["before"] == {"_id": 1, "owner": "me", "n": 1}


@pytest.mark.parametrize("before", [None, {"owner": "you", "secret": 1}])
def test_document_that_comes_into_reach_brings_nothing_of_before(before):
    moved = change(
        "update", after={"owner": "me"}, before=before, updatedFields={"owner": "me"}, removedFields=["x"]
    )
    ((name, told),) = heard(moved)
    assert (name, told["changed"], told["before"]) == ("update", None, None)
    assert told["doc"] == {"_id": 1, "owner": "me"}


@pytest.mark.parametrize(
    ("before", "changed", "is_told"),
    [
        ({"owner": "you"}, {"n": 1}, False),
        ({"owner": "you"}, {"owner": "me"}, True),
        ({"owner": "me"}, {"n": 1}, True),
        # Without a pre-image, nobody knows.
        (None, {"n": 1}, True),
    ],
)
def test_update_by_the_former_owner_is_not_told(before, changed, is_told):
    """The document is read at the end of the batch, when it has come into reach."""
    one = change("update", after={"owner": "me", "n": 1}, before=before, updatedFields=changed)
    assert bool(heard(one)) is is_told
    assert bool(heard(one, PLAIN)) is is_told


def test_document_that_went_away_and_came_back_brings_nothing_of_between():
    # The document is of a later moment than the change: it is in reach again.
    away = change(
        "update", after={"owner": "me"}, before={"owner": "me"}, updatedFields={"owner": "you", "secret": 1}
    )
    ((_, told),) = heard(away)
    assert told["changed"] is None


def test_change_without_a_pre_image_is_told_without_its_values():
    ((_, told),) = heard(change("update", after={"owner": "me", "n": 2}, updatedFields={"n": 2}))
    assert (told["changed"], told["before"]) == (None, None)


@pytest.mark.parametrize("operation", ["update", "replace"])
def test_document_that_leaves_is_told_by_its_id_alone(operation):
    left = change(
        operation, after={"owner": "you", "secret": 1}, before={"owner": "me"}, updatedFields={"secret": 1}
    )
    ((name, told),) = heard(left)
    assert name == "leave"
    assert told.keys() == {"op", "ns", "id", "time"}
    assert told["id"] == 1
    assert heard(left, PLAIN) == []
    bundled = heard(left, replace(ENVELOPE, tag="abc"))
    assert bundled[0][0] == "leave"
    assert bundled[0][1]["of"] == "abc"


def test_document_that_left_and_was_deleted_at_once_is_told():
    gone = change("update", before={"owner": "me"}, updatedFields={"owner": "you"})
    assert [name for name, _ in heard(gone)] == ["leave"]
    assert heard(change("update", before={"owner": "me"}, updatedFields={"n": 1})) == []


def test_document_of_others_is_not_told():
    for before in (None, {"owner": "you"}):
        for one in (
            change("update", after={"owner": "you"}, before=before, updatedFields={"n": 1}),
            change("replace", after={"owner": "you"}, before=before),
            change("insert", after={"owner": "you"}),
            change("delete", before=before),
        ):
            assert heard(one) == []
            assert heard(one, PLAIN) == []


def test_delete_is_told_if_the_pre_image_was_in_reach():
    ((name, told),) = heard(change("delete", before={"owner": "me", "n": 1}))
    assert (name, told["id"], told["before"]) == ("delete", 1, {"_id": 1, "owner": "me", "n": 1})
    assert heard(change("delete", before={"owner": "me"}), PLAIN) == [("delete", {"_id": 1})]


def test_document_before_a_change_finds_those_that_it_leaves():
    left = change("update", after={"owner": "you"}, before={"owner": "me"}, updatedFields={"owner": "you"})
    (me,) = MINE.equalities["owner"]
    assert me in left.decode().keys("owner")


def test_rules_of_two_clients_do_not_share_a_rendering():
    decoded = change(
        "update", after={"owner": "me"}, before={"owner": "you"}, updatedFields={"owner": "me"}
    ).decode()
    everybody = Subscription(format=Format.ENVELOPE, before=True)
    assert b'"before":{' in decoded.frame(everybody)
    assert b'"before":null' in decoded.frame(ENVELOPE)
