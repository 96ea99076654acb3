"""Rules of bundles, several subscriptions on one connection, and of the list of streams."""

from __future__ import annotations

import json
from typing import Any

from conformance.live import among
from conformance.rule import Needs, Rule, Subject, equal, expect
from conformance.stream import Stream


def _bundle(subject: Subject, subscriptions: dict[str, Any], **more: Any) -> Stream:
    return Stream(subject.target, "/stream", body={"subscriptions": subscriptions, **more})


def _query(subject: Subject, ids: list[str]) -> dict[str, Any]:
    return {"stream": subject.collection, "mode": "live", "filter": json.loads(among(ids))}


def _opened(subject: Subject) -> None:
    one = {"stream": subject.collection, "mode": "count"}
    with _bundle(subject, {"a": one, "b": one, "c": {**one, "filter": {"_id": "nobody"}}}) as stream:
        equal(stream.status, 200, "the status")
        opened = stream.event()
        equal(opened.event, "opened", "the first event")
        tags = opened.data
        equal(set(tags), {"a", "b", "c"}, "the names in opened")
        equal(tags["a"], tags["b"], "the tag of an equal subscription")
        expect(tags["a"] != tags["c"], "two different subscriptions have one tag")


def _commit(subject: Subject) -> None:
    ids = subject.write.ids(1)
    with _bundle(subject, {"a": _query(subject, ids)}) as stream:
        tag = stream.event("opened").data["a"]
        first = stream.event("commit")
        expect(first.id, "a commit has no id")
        subject.write.insert(ids[0])
        stream.event("commit")
        events = [block for block in stream.blocks if block.is_event]
        own = [event for event in events if event.event not in ("opened", "commit", "feed")]
        equal([event.event for event in own], ["live", "changes"], "the events")
        for event in own:
            expect(event.id is None, f"the event {event.event} has an id of its own")
            beginning = f'{{"of":"{tag}"'
            expect(
                str(event.field("data")).startswith(beginning),
                f"{event.event} does not begin with {beginning}",
            )


def _comes_back(subject: Subject) -> None:
    ids = subject.write.ids(2)
    with _bundle(subject, {"a": _query(subject, ids)}) as stream:
        position = stream.event("commit").id
    subject.write.insert(ids[1])
    with _bundle(subject, {"a": _query(subject, ids)}, since=position) as stream:
        stream.until(lambda block: block.is_event and ids[1] in str(block.data), "document that was missed")
        stream.event("commit")


def _list(subject: Subject) -> None:
    answer = subject.target.ask("GET", "/streams")
    equal(answer.status, 200, "the status")
    body = answer.json()
    expect(isinstance(body, dict) and isinstance(body.get("streams"), list), "there is no list")
    for one in body["streams"]:
        equal(set(one), {"name", "collection", "modes", "fields"}, "the members of a stream")


RULES = (
    Rule("streams", "GET /streams lists names, collections, modes and fields", _list),
    Rule("opened", "A bundle opens with a tag for each name; equal ones share it", _opened, Needs.DOCUMENTS),
    Rule("commit", "Only a commit has an id, and data begins with the tag", _commit, Needs.WRITES),
    Rule(
        "bundle-resume",
        "A bundle that comes back gets what it missed, and a commit",
        _comes_back,
        Needs.WRITES,
    ),
)
