"""The index over subscriptions: it finds those whom a change concerns, and forgets those who leave."""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import Sequence

import bson
import pytest
from bson import ObjectId
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brook.changes.change import Change, DecodedChange
from brook.delivery.groups import Group, Groups
from brook.delivery.history import History
from brook.delivery.subscriber import Subscriber
from brook.delivery.views import ChangeView
from brook.event import Batch, DecodedEvent, Event, Reset, ResetReason
from brook.query import Filter, index_keys
from brook.subscription import Format, Subscription
from tests.support.fakes import BARE, CHUNKED, FakeConnection, Harness

NOW = datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)
OID = ObjectId("5bfef740419aeed958bbfa1b")


def change(
    operation: str, document: dict | None, *, before: bool = False, id: object = 1, ns: str = "a"
) -> Change:
    """A change event as MongoDB sends it; `document` is that after the change, or the one deleted."""
    key = document["_id"] if document is not None and "_id" in document else id
    event: dict[str, object] = {
        "documentKey": {"_id": key}, "ns": {"db": "brook", "coll": ns}, "wallTime": NOW,
        "updateDescription": {"updatedFields": {}, "removedFields": []},
    }  # fmt: skip
    if operation != "delete":
        event["fullDocument"] = document
    elif before:
        event["fullDocumentBeforeChange"] = document
    return Change("82AB", operation, bson.encode(event))


def wanting(filter: dict | None = None, **wish: object) -> Subscription:
    return Subscription(filter=None if filter is None else Filter.parse(json.dumps(filter)), **wish)  # type: ignore[arg-type]


def joined(groups: Groups, subscription: Subscription, framing=BARE) -> Subscriber:
    subscriber = Subscriber(subscription, FakeConnection(framing=framing), 10**6)
    groups.join(subscriber, 0)
    return subscriber


def scanned(groups: Groups, recipient: int, events: Sequence[DecodedEvent]) -> dict[Group, list[bytes]]:
    """What asking every group about every event gives: what the index must give too."""
    found: dict[Group, list[bytes]] = {}
    for group in groups:
        if group.subscription.recipient == recipient:
            frames = [frame for event in events if (frame := event.frame(group.subscription))]
            if frames:
                found[group] = frames
    return found


def view(subscription: Subscription) -> ChangeView:
    return ChangeView(subscription, History(0, 0))


def delivered(groups: Groups, recipient: int, events) -> dict:
    """The frames of a batch for each group that is sent some."""
    concerned = groups.concerned(recipient, events)
    frames = {group: group.view.frames(candidates) for group, candidates in concerned.items()}
    return {group: each for group, each in frames.items() if each}


def nothing_remains(groups: Groups) -> bool:
    return not groups and groups.index_entries == 0


# -- against scanning everything -------------------------------------------------------------------

scalars = st.sampled_from([0, 1, 1.0, 2, True, False, None, "x", "", "1", 2**53, -1])
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "0"]), inner, max_size=2)
    ),
    max_leaves=4,
)
documents = st.dictionaries(st.sampled_from(["a", "b", "c"]), values, max_size=3)
ids = scalars.filter(lambda value: value is not None) | st.dictionaries(
    st.sampled_from(["a", "b"]), scalars, max_size=2
)
paths = st.sampled_from(["a", "b", "c", "a.b", "a.0", "b.a.b", "_id", "_id.a"])
conditions = st.one_of(
    scalars,
    st.builds(lambda value: {"$eq": value}, values.filter(lambda value: not isinstance(value, dict))),
    st.builds(lambda items: {"$in": items}, st.lists(scalars, max_size=4)),
    st.builds(lambda items: {"$all": items}, st.lists(scalars, max_size=2)),
    st.builds(lambda value: {"$ne": value}, scalars),
    st.builds(lambda value: {"$gte": value}, scalars.filter(lambda value: type(value) is int)),
    st.builds(lambda value: {"$exists": value}, st.booleans()),
    st.builds(lambda value: {"$not": {"$in": value}}, st.lists(scalars, max_size=2)),
    st.builds(lambda value: {"$elemMatch": {"$in": value}}, st.lists(scalars, max_size=2)),
)
queries = st.recursive(
    st.dictionaries(paths, conditions, max_size=3),
    lambda inner: st.builds(
        lambda name, parts: {name: parts},
        st.sampled_from(["$and", "$or", "$nor"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=4,
)
wanted_ids = st.lists(scalars, min_size=1, max_size=3).map(
    lambda several: frozenset().union(*(index_keys({"_id": id}, "_id") for id in several))
)
subscriptions = st.builds(
    Subscription,
    recipient=st.sampled_from([0, 0, 0, 0, 1, 2]),
    namespaces=st.none() | st.sets(st.sampled_from(["brook.a", "brook.b"]), min_size=1).map(frozenset),
    operations=st.none()
    | st.sets(st.sampled_from(["insert", "delete", "update"]), min_size=1).map(frozenset),
    ids=st.none() | st.none() | wanted_ids,
    filter=st.none() | queries.map(lambda query: Filter.parse(json.dumps(query))),
    format=st.sampled_from(Format),
    checkpoints=st.booleans(),
)
changes = st.builds(
    lambda operation, document, key, gone, before, ns: change(
        operation, None if gone and operation != "insert" else {"_id": key, **document}, id=key,
        before=before, ns=ns,
    ),
    st.sampled_from(["insert", "update", "replace", "delete"]), documents, ids, st.booleans(), st.booleans(),
    st.sampled_from(["a", "b"]),
)  # fmt: skip
others = st.sampled_from(
    [Reset(ResetReason.HISTORY_LOST, id="82AA"), Event("82AC", "anything"),
     Reset(ResetReason.COLLECTION_DROPPED, id="82AA", ns=["brook.a"]),
     Reset(ResetReason.DATABASE_DROPPED, id="82AA", ns=["brook"])]
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(
    wanted=st.lists(subscriptions, max_size=12),
    batches=st.lists(
        st.tuples(st.sampled_from([0, 0, 0, 1]), st.lists(changes | others, min_size=1, max_size=4)),
        max_size=4,
    ),
    leaving=st.randoms(use_true_random=False),
)
@example(wanted=[wanting({"_id.a": 1})], batches=[(0, [change("delete", None, id={"a": 1})])], leaving=None)
@example(
    wanted=[wanting({"a": {"$in": []}})],
    batches=[(0, [Reset(ResetReason.HISTORY_LOST, id="82AA")])],
    leaving=None,
)
@example(
    wanted=[wanting({"a": 1}), wanting({"a": {"$in": [2, 1]}}), wanting({"a": 1, "b": 1}), wanting()],
    batches=[(0, [change("insert", {"_id": 1, "a": [1, 2], "b": 2})])], leaving=None,
)  # fmt: skip
def test_index_finds_exactly_those_that_scanning_everything_finds(wanted, batches, leaving):
    groups = Groups(view)
    members = [joined(groups, subscription) for subscription in wanted]
    if leaving is not None:
        leaving.shuffle(members)
    for recipient, events in batches:
        opened = [event.decode() for event in events]
        found = delivered(groups, recipient, opened)
        assert found == scanned(groups, recipient, opened)
        if leaving is not None and members:
            groups.leave(members.pop())
    for member in members:
        groups.leave(member)
    assert nothing_remains(groups), "clients choose the values: what is left of them would pile up"


@settings(deadline=None, max_examples=50)
@given(
    steps=st.lists(st.tuples(st.integers(0, 7), st.booleans()), max_size=40),
    wanted=st.lists(subscriptions, min_size=8, max_size=8),
)
def test_whoever_comes_and_goes_the_index_knows_who_is_there(steps, wanted):
    groups = Groups(view)
    here: dict[int, list[Subscriber]] = {}
    for number, comes in steps:
        if comes:
            here.setdefault(number, []).append(
                joined(groups, wanted[number], framing=BARE if number % 2 else CHUNKED)
            )
        elif here.get(number):
            groups.leave(here[number].pop())
        expected = {wanted[number] for number, members in here.items() if members}
        assert {group.subscription for group in groups} == expected
        for group in groups:
            there = sum(
                len(members) for number, members in here.items() if wanted[number] == group.subscription
            )
            assert sum(map(len, group.fanouts.values())) == there
    for members in here.values():
        for member in members:
            groups.leave(member)
    assert nothing_remains(groups)


# -- what it costs ---------------------------------------------------------------------------------


class Asked:
    """Which subscriptions changes were asked to render themselves for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.subscriptions: list[Subscription] = []
        frame = DecodedChange.frame

        def count(change: DecodedChange, subscription: Subscription) -> bytes:
            self.subscriptions.append(subscription)
            return frame(change, subscription)

        monkeypatch.setattr(DecodedChange, "frame", count)


@pytest.fixture
def asked(monkeypatch) -> Asked:
    return Asked(monkeypatch)


def test_change_is_asked_about_only_for_those_who_may_want_it(asked):
    groups = Groups(view)
    members = [joined(groups, wanting({"owner": number})) for number in range(10_000)]
    asked.subscriptions.clear()
    found = delivered(groups, 0, [change("insert", {"_id": 1, "owner": 4711}).decode()])
    assert asked.subscriptions == [members[4711].subscription]
    assert [group.subscription for group in found] == [members[4711].subscription]

    asked.subscriptions.clear()
    many = delivered(groups, 0, [change("insert", {"_id": 1, "owner": [7, 8, 7.0, "9"]}).decode()])
    assert {group.subscription for group in many} == {members[7].subscription, members[8].subscription}
    assert len(asked.subscriptions) == 2

    asked.subscriptions.clear()
    nobody = [
        {"_id": 2, "owner": -1},
        {"_id": 3},
        {"_id": 4, "owner": None},
        {"_id": 5, "owner": {"owner": 1}},
    ]
    assert delivered(groups, 0, [change("insert", document).decode() for document in nobody]) == {}
    assert asked.subscriptions == []


@pytest.mark.parametrize(
    ("filters", "document"),
    [
        ([{"owner": {"$in": [n, n + 10_000]}} for n in range(1000)], {"owner": 10_005}),
        ([{"owner": n, "size": {"$gt": 3}} for n in range(1000)], {"owner": 5, "size": 4}),
        ([{"size": {"$gt": 3}, "$and": [{"owner.name": f"n{n}"}]} for n in range(1000)],
         {"owner": [{"name": "n5"}], "size": 4}),
        ([{"kind": {"$in": list(range(50))}, "owner": n} for n in range(1000)], {"owner": 5, "kind": 7}),
        ([{"owner": {"$eq": n, "$gte": 0}} for n in range(1000)], {"owner": 5}),
    ],
    ids=["in", "and a range", "dotted, in $and", "the condition with the fewest values", "eq"],
)  # fmt: skip
def test_whatever_has_an_equality_is_looked_up(asked, filters, document):
    groups = Groups(view)
    members = [joined(groups, wanting(filter)) for filter in filters]
    found = delivered(groups, 0, [change("insert", {"_id": 1, **document}).decode()])
    assert [group.subscription for group in found] == [members[5].subscription] == asked.subscriptions


def test_ids_are_looked_up_also_for_deletes_and_for_documents_that_are_gone(asked):
    groups = Groups(view)
    members = [
        joined(
            groups, Subscription(ids=frozenset(index_keys({"_id": number}, "_id")), format=Format.ENVELOPE)
        )
        for number in range(1000)
    ]
    events = [change("delete", None, id=5), change("update", None, id=6), change("insert", {"_id": 7})]
    found = delivered(groups, 0, [event.decode() for event in events])
    expected = [members[number].subscription for number in (5, 6, 7)]
    assert asked.subscriptions == expected
    assert [group.subscription for group in found] == expected


def test_batch_is_asked_about_once_a_group_however_many_are_in_it(asked):
    groups = Groups(view)
    for number in range(300):
        joined(groups, wanting({"owner": number % 3}), framing=BARE if number % 2 else CHUNKED)
    found = delivered(groups, 0, [change("insert", {"_id": 1, "owner": 2}).decode() for _ in range(10)])
    assert len(asked.subscriptions) == 10
    assert [len(frames) for frames in found.values()] == [10]


def test_nothing_is_rendered_before_its_turn(asked):
    async def scenario() -> None:
        harness = Harness()
        harness.start()
        for number in range(100):
            harness.connect(subscription=wanting({"size": {"$gte": -number}}))
        batch = Batch(tuple(change("insert", {"_id": 1, "size": 2}) for _ in range(10)))
        publishing = asyncio.create_task(harness.list.publish_in_turns(batch))
        await asyncio.sleep(0)
        assert len(asked.subscriptions) == 10
        await publishing
        assert len(asked.subscriptions) == 1000

    asyncio.run(scenario())


def test_reset_concerns_those_too_whom_an_index_finds():
    groups = Groups(view)
    members = [
        joined(groups, wanting(filter)) for filter in ({"owner": 1}, {"_id": 5}, {"a": {"$in": []}}, {}, None)
    ]
    members.append(joined(groups, Subscription(ids=frozenset({(10, 5)}))))
    assert len(delivered(groups, 0, [Reset(ResetReason.HISTORY_LOST)])) == len(members)


def test_counts_are_those_of_the_time_in_which_a_subscriber_was_there():
    groups = Groups(view)
    first = joined(groups, wanting({"owner": 1}))
    members = groups.fanout_of(first)
    members.events, members.bytes = 5, 500
    second = joined(groups, wanting({"owner": 1.0}))
    assert groups.fanout_of(second) is members
    members.events, members.bytes = 7, 700
    groups.leave(first)
    groups.leave(second)
    assert (first.events, first.bytes) == (7, 700)
    assert (second.events, second.bytes) == (2, 200)
    assert nothing_remains(groups)
