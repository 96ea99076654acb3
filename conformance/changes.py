"""Rules of a stream of changes: its events, their ids, and what narrows it."""

from __future__ import annotations

import json
from typing import Any

from conformance.rule import Needs, Rule, Subject, equal, expect
from conformance.stream import Block, Stream


def follow(subject: Subject, ids: list[str], **query: Any) -> Stream:
    """A stream of these documents alone."""
    return Stream(subject.target, subject.path, {"id": ids, **query})


def _documents(subject: Subject) -> None:
    ids = subject.write.ids(1)
    with follow(subject, ids).opened() as stream:
        inserted = subject.write.insert(ids[0], type="newt", size=1)
        equal(_message(stream), inserted, "the event of an insert")
        subject.write.update(ids[0], size=2)
        equal(_message(stream), {**inserted, "size": 2}, "the event of an update")
        replaced = subject.write.replace(ids[0], type="otter")
        equal(_message(stream), replaced, "the event of a replace")
        subject.write.delete(ids[0])
        deleted = stream.event()
        equal((deleted.event, deleted.data), ("delete", {"_id": ids[0]}), "the event of a delete")


def _message(stream: Stream) -> Any:
    event = stream.event()
    equal(event.event, "message", "the name of the event")
    return event.data


def _order(subject: Subject) -> None:
    ids = subject.write.ids(20)
    with follow(subject, ids).opened() as stream:
        for id in ids:
            subject.write.insert(id)
        events = stream.events(20)
        equal([event.data["_id"] for event in events], ids, "the order of the events")
        own = [event.id for event in events]
        expect(all(own), "an event has no id")
        equal(len(set(own)), len(own), "the number of different ids")


def _envelope(subject: Subject) -> None:
    ids = subject.write.ids(1)
    with follow(subject, ids, format="envelope").opened() as stream:
        document = subject.write.insert(ids[0], size=1)
        subject.write.update(ids[0], size=2)
        subject.write.delete(ids[0])
        # An update whose document is gone says so.
        found = [_checked(stream.event()) for _ in range(3)]
        equal([one["op"] for one in found], ["insert", "update", "delete"], "the operations")
        equal(found[0]["doc"], document, "the document of the insert")
        equal(found[2]["doc"], None, "the document of the delete")
        equal({one["ns"] for one in found}, {subject.write.namespace}, "the collection")
        expect("changed" in found[1] and "changed" not in found[0], "changed is not in updates alone")


def _checked(event: Block) -> dict[str, Any]:
    """The data of an event with an envelope. Raises Breach if it has not the documented members."""
    data = event.data
    expect(isinstance(data, dict), f"the data is {data!r:.100}")
    missing = {"op", "ns", "id", "doc", "time"} - set(data)
    expect(not missing, f"the envelope lacks {', '.join(sorted(missing))}")
    equal(event.event, data["op"], "the name of the event")
    return dict(data)


def _filter(subject: Subject) -> None:
    one, other = ids = subject.write.ids(2)
    query = {"filter": json.dumps({"size": {"$gte": 2}})}
    with follow(subject, ids, **query).opened() as stream:
        subject.write.insert(one, size=1)
        subject.write.insert(other, size=3)
        subject.write.update(one, size=2)
        subject.write.update(other, size=0)
        subject.write.update(one, size=5)
        seen = [(event.data["_id"], event.data["size"]) for event in stream.events(3)]
        wanted = [(other, 3), (one, 2), (one, 5)]
        # An update shows the end of its batch.
        expect(
            [id for id, _ in seen] == [id for id, _ in wanted] and all(size >= 2 for _, size in seen),
            f"the events are {seen}, not {wanted}",
        )


def _deletes_by_id(subject: Subject) -> None:
    one, other = subject.write.ids(2)
    query = {"filter": json.dumps({"_id": one})}
    with Stream(subject.target, subject.path, query).opened() as stream:
        for id in (other, one):
            subject.write.insert(id)
            subject.write.delete(id)
        deleted = stream.event("delete")
        equal(deleted.data, {"_id": one}, "the delete of a filter on _id")


def _fields(subject: Subject) -> None:
    ids = subject.write.ids(1)
    with (
        follow(subject, ids, fields="size,place.pond").opened() as some,
        follow(subject, ids, fields="-size").opened() as rest,
    ):
        subject.write.insert(ids[0], type="newt", size=1, place={"pond": "A", "depth": 2})
        equal(some.event().data, {"_id": ids[0], "size": 1, "place": {"pond": "A"}}, "fields=size,place.pond")
        wanted = {"_id": ids[0], "type": "newt", "place": {"pond": "A", "depth": 2}}
        equal(rest.event().data, wanted, "fields=-size")


def _operations(subject: Subject) -> None:
    ids = subject.write.ids(1)
    with follow(subject, ids, ops="delete,insert").opened() as stream:
        subject.write.insert(ids[0])
        subject.write.update(ids[0], size=1)
        subject.write.delete(ids[0])
        equal(
            [event.event for event in stream.events(2)],
            ["message", "delete"],
            "the events of ops=delete,insert",
        )


def _values(subject: Subject) -> None:
    plain, exact = subject.write.ids(2)
    with (
        follow(subject, [plain]).opened() as json_stream,
        follow(subject, [exact], types="ejson").opened() as ejson_stream,
    ):
        for id in (plain, exact):
            subject.write.insert(id, big=2**53 + 1, small=5, none=None, list=[1, {"b": 1, "a": 2}])
        wanted = {"big": str(2**53 + 1), "small": 5, "none": None, "list": [1, {"b": 1, "a": 2}]}
        equal(json_stream.event().data, {"_id": plain, **wanted}, "the values")
        equal(ejson_stream.event().data["big"], 2**53 + 1, "a large Long with types=ejson")


def _no_checkpoints(subject: Subject) -> None:
    with Stream(subject.target, subject.path, {"checkpoints": "0"}) as stream:
        opening = stream.block()
        expect(opening.lines[0].startswith(":"), f"the opening is {opening.lines!r:.100}, not a comment")
        ids = subject.write.ids(1)
        subject.write.insert(ids[0])
        stream.until(lambda block: block.is_event and ids[0] in str(block.data), "event of an insert")
        alone = [block.lines for block in stream.blocks if block.id and not block.is_event]
        expect(not alone, f"a block without data has an id: {alone[:1]}")


RULES = (
    Rule("documents", "A change is the whole document, a delete its _id", _documents, Needs.WRITES),
    Rule("order", "Events are in the order of the writes, each with an id of its own", _order, Needs.WRITES),
    Rule("envelope", "The envelope has op, ns, id, doc, changed and time", _envelope, Needs.WRITES),
    Rule("filter", "A change is sent if the document after it passes the filter", _filter, Needs.WRITES),
    Rule("deletes", "A delete passes a filter that reads only _id", _deletes_by_id, Needs.WRITES),
    Rule("fields", "fields select or leave out, and _id stays", _fields, Needs.WRITES),
    Rule("ops", "ops select operations", _operations, Needs.WRITES),
    Rule("values", "Values are JSON, or Extended JSON with types=ejson", _values, Needs.WRITES),
    Rule("checkpoints", "With checkpoints=0, no block without data has an id", _no_checkpoints, Needs.WRITES),
)
