"""Rules of live queries, of their count, and of the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from conformance.rule import Needs, Rule, Subject, equal, expect
from conformance.stream import Block, Silence, Stream

MAX_DOCUMENTS = 100


def among(ids: list[str], **conditions: Any) -> str:
    """A filter that only documents of this rule pass."""
    return json.dumps({"_id": {"$in": ids}, **conditions})


def snapshot(stream: Stream) -> tuple[list[dict[str, Any]], Block]:
    """The documents of the snapshot that comes next, and the event that ends it."""
    documents: list[dict[str, Any]] = []
    while True:
        event = stream.event()
        if event.event == "live":
            return documents, event
        equal(event.event, "snapshot", "the event before live")
        expect(event.id is None, "a snapshot has an id before it is whole")
        expect(len(event.data["docs"]) <= MAX_DOCUMENTS, f"{len(event.data['docs'])} documents in an event")
        documents += event.data["docs"]


def apply(held: dict[str, Any], event: Block) -> dict[str, Any]:
    """The copy of a client after an event `changes`."""
    held = dict(held)
    for change in event.data["changes"]:
        if change["op"] == "upsert":
            held[change["id"]] = change["doc"]
        else:
            equal(change["op"], "remove", "the operation")
            held.pop(change["id"], None)
    return held


def until_held(stream: Stream, held: dict[str, Any], wanted: dict[str, Any], of: str) -> None:
    """Apply changes until a copy is as wanted: a snapshot may be a moment older than the last write."""
    while held != wanted:
        try:
            held = apply(held, stream.event("changes"))
        except Silence as silence:
            equal(held, wanted, f"{of} ({silence})")


def held_by(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """The copy of a client that has these documents."""
    return {document["_id"]: document for document in documents}


def _whole(subject: Subject) -> None:
    query = {"mode": "live"}
    with Stream(subject.target, subject.path, query) as stream:
        if stream.event().event == "problem":
            return  # Too large for a snapshot: the server says so, and is right.
    with Stream(subject.target, subject.path, query) as stream:
        documents, live = snapshot(stream)
        expect(live.id, "live has no id to come back with")
        equal(live.data["count"], len(documents), "the count of live")


def _changes(subject: Subject) -> None:
    one, other = ids = subject.write.ids(2)
    subject.write.insert(one, size=1)
    with _open(subject, ids, size={"$gte": 1}) as stream:
        documents, _ = snapshot(stream)
        until_held(stream, held_by(documents), {one: {"_id": one, "size": 1}}, "the snapshot")
        subject.write.insert(other, size=0)
        steps: list[tuple[str, Mapping[str, Any], str, str]] = [
            (other, {"size": 2}, "upsert", "enter"),
            (one, {"size": 3}, "upsert", "update"),
            (other, {"size": 0}, "remove", "leave"),
        ]
        for id, fields, op, why in steps:
            subject.write.update(id, **fields)
            _one_change(stream, id, op, why)
        subject.write.delete(one)
        _one_change(stream, one, "remove", "delete")


def _one_change(stream: Stream, id: str, op: str, why: str) -> None:
    event = stream.event("changes")
    expect(event.id, "an event changes has no id")
    found = [(change["id"], change["op"], change["why"]) for change in event.data["changes"]]
    equal(found, [(id, op, why)], "the changes")


def _open(subject: Subject, ids: list[str], **conditions: Any) -> Stream:
    return Stream(subject.target, subject.path, {"mode": "live", "filter": among(ids, **conditions)})


def _window(subject: Subject) -> None:
    small, middle, large = ids = subject.write.ids(3)
    subject.write.insert(small, size=1)
    subject.write.insert(middle, size=2)
    query = {"mode": "live", "filter": among(ids), "sort": '{"size":-1}', "limit": "2"}
    with Stream(subject.target, subject.path, query) as stream:
        documents, _ = snapshot(stream)
        until_held(stream, held_by(documents), _two(small, middle), "the window")
        if len(documents) == 2:
            equal([document["_id"] for document in documents], [middle, small], "the order of the window")
        subject.write.insert(large, size=3)
        changes = stream.event("changes").data["changes"]
        upserts = [(change["id"], change.get("before")) for change in changes if change["op"] == "upsert"]
        removes = [(change["id"], change["why"]) for change in changes if change["op"] == "remove"]
        equal(upserts, [(large, middle)], "the place of a new document")
        equal(removes, [(small, "leave")], "the document that it pushes out")


def _two(small: str, middle: str) -> dict[str, Any]:
    return {small: {"_id": small, "size": 1}, middle: {"_id": middle, "size": 2}}


def _comes_back(subject: Subject) -> None:
    one, other, gone = ids = subject.write.ids(3)
    subject.write.insert(one, size=1)
    subject.write.insert(gone, size=1)
    with _open(subject, ids) as stream:
        documents, live = snapshot(stream)
        wanted = {id: {"_id": id, "size": 1} for id in (one, gone)}
        until_held(stream, held_by(documents), wanted, "the snapshot")
        position = str([block.id for block in stream.blocks if block.id][-1] or live.id)
    held = wanted
    subject.write.insert(other, size=2)
    subject.write.delete(gone)
    query = {"mode": "live", "filter": among(ids)}
    with Stream(subject.target, subject.path, query, {"Last-Event-ID": position}) as stream:
        while (event := stream.event()).event != "live":
            # A server without a record of the query may read it again.
            held = held_by(event.data["docs"]) if event.event == "snapshot" else apply(held, event)
        equal(event.data["count"], len(held), "the count of live")
        wanted = {one: {"_id": one, "size": 1}, other: {"_id": other, "size": 2}}
        until_held(stream, held, wanted, "the copy after coming back")


def _count(subject: Subject) -> None:
    ids = subject.write.ids(2)
    query = {"mode": "count", "filter": among(ids)}
    with Stream(subject.target, subject.path, query) as stream:
        equal(stream.event("count").data, {"count": 0}, "the first count")
        for number, id in enumerate(ids, start=1):
            subject.write.insert(id)
            equal(stream.event("count").data, {"count": number}, "the count after an insert")


def _as_json(subject: Subject) -> None:
    one, other = ids = subject.write.ids(2)
    document = subject.write.insert(one, size=1)
    answer = subject.target.ask("GET", f"/documents/{subject.collection}", {"filter": among(ids)})
    equal(answer.status, 200, "the status")
    body = answer.json()
    equal(body["docs"], [document], "the documents")
    subject.write.insert(other, size=2)
    query = {"id": ids, "since": body["position"]}
    with Stream(subject.target, subject.path, query).opened() as stream:
        equal(stream.event().data["_id"], other, "what follows the position")


RULES = (
    Rule("snapshot", "A live query begins with all of its documents", _whole, Needs.DOCUMENTS),
    Rule("live-changes", "Each change says what it does to the set, and why", _changes, Needs.WRITES),
    Rule("window", "A window says where a document goes, and what it pushes out", _window, Needs.WRITES),
    Rule(
        "live-resume",
        "A client that comes back holds what find returns",
        _comes_back,
        Needs.WRITES,
    ),
    Rule("count", "mode=count sends the number, at once and when it changes", _count, Needs.WRITES),
    Rule("json", "GET /documents has the documents, and the position to listen from", _as_json, Needs.WRITES),
)
