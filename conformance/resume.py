"""Rules of positions: a client that comes back gets exactly what it missed."""

from __future__ import annotations

from conformance.changes import follow
from conformance.rule import Needs, Rule, Subject, equal, expect
from conformance.stream import Block, Stream
from conformance.target import Query


def _seen(subject: Subject, ids: list[str]) -> tuple[str, list[Block]]:
    """The position of the opening, and the events of documents that are written now."""
    with follow(subject, ids) as stream:
        opening = stream.until(lambda block: bool(block.id) and not block.is_event, "position in the opening")
        for id in ids:
            subject.write.insert(id)
        return str(opening.id), stream.events(len(ids))


def _same(stream: Stream, wanted: list[Block], of: str) -> None:
    """Raise Breach if a stream does not begin with the same events, with the same ids."""
    stream.opened()
    found = stream.events(len(wanted))
    equal([(one.id, one.data) for one in found], [(one.id, one.data) for one in wanted], of)


def _header(subject: Subject) -> None:
    ids = subject.write.ids(5)
    _, events = _seen(subject, ids)
    headers = {"Last-Event-ID": str(events[1].id)}
    with Stream(subject.target, subject.path, {"id": ids}, headers) as stream:
        _same(stream, events[2:], "what follows Last-Event-ID")


def _parameter(subject: Subject) -> None:
    ids = subject.write.ids(5)
    _, events = _seen(subject, ids)
    with follow(subject, ids, since=str(events[0].id)) as stream:
        _same(stream, events[1:], "what follows since")


def _header_wins(subject: Subject) -> None:
    ids = subject.write.ids(4)
    opening, events = _seen(subject, ids)
    query: Query = {"id": ids, "since": opening}
    with Stream(subject.target, subject.path, query, {"Last-Event-ID": str(events[2].id)}) as stream:
        _same(stream, events[3:], "what follows Last-Event-ID, beside a since")


def _checkpoint(subject: Subject) -> None:
    ids = subject.write.ids(3)
    opening, events = _seen(subject, ids)
    with follow(subject, ids, since=opening) as stream:
        _same(stream, events, "what follows the position of the opening")


def _joins_live(subject: Subject) -> None:
    ids = subject.write.ids(6)
    _, events = _seen(subject, ids[:3])
    with follow(subject, ids, since=str(events[0].id)) as stream:
        _same(stream, events[1:], "what follows since")
        for id in ids[3:]:
            subject.write.insert(id)
        equal([one.data["_id"] for one in stream.events(3)], ids[3:], "what follows the missed events")


def _old_position(subject: Subject) -> None:
    with Stream(subject.target, subject.path, {"since": "t1.1"}) as stream:
        reset = stream.event("reset")
        equal(reset.data.get("reason"), "history-lost", "the reason")
        equal(reset.id, "", "the id of the reset")
        stream.until(lambda block: bool(block.id), "new position")


def _position_of_a_write(subject: Subject) -> None:
    ids = subject.write.ids(2)
    subject.write.insert(ids[0])
    position = subject.write.position()
    subject.write.insert(ids[1])
    with follow(subject, ids, since=position).opened() as stream:
        equal(stream.event().data["_id"], ids[1], "what follows the position of a write")


def _progress(subject: Subject) -> None:
    with Stream(subject.target, subject.path, {"progress": "1", "ops": "delete"}).opened() as stream:
        wanted = subject.write.position()
        ordered = _ordered(wanted)
        stream.until(
            lambda block: bool(block.id) and _ordered(str(block.id)) >= ordered, f"checkpoint at {wanted}"
        )


def _ordered(position: str) -> tuple[int, int]:
    """A checkpoint as numbers that can be compared."""
    seconds, _, increment = position.removeprefix("t").partition("-")[0].partition(".")
    expect(seconds.isdigit() and increment.isdigit(), f"{position!r} is no position")
    return int(seconds), int(increment)


RULES = (
    Rule("last-event-id", "Last-Event-ID brings what was missed, once and in order", _header, Needs.WRITES),
    Rule("since-id", "since does the same", _parameter, Needs.WRITES),
    Rule("header-wins", "Last-Event-ID wins over since", _header_wins, Needs.WRITES),
    Rule("checkpoint", "The position of the opening can be resumed from", _checkpoint, Needs.WRITES),
    Rule(
        "live-again", "After the missed events come the live ones, without a gap", _joins_live, Needs.WRITES
    ),
    Rule(
        "history-lost",
        "A position that the log has lost gets a reset",
        _old_position,
        Needs.DOCUMENTS,
    ),
    Rule("operation-time", "The operationTime of a write is a position", _position_of_a_write, Needs.WRITES),
    Rule("progress", "progress=1 tells that a write has arrived", _progress, Needs.WRITES),
)
