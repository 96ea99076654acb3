"""Result sets against a model: after every step, a live client holds what `find` shows."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brook.changes.resume_token import position
from brook.event import Position, Reset, ResetReason
from brook.parameters import subscription
from tests.support.fakes import Client, Harness
from tests.support.pond import KNOWN, Pond, PondSource, writes

QUERIES = ['{"size":{"$gte":5}}', '{"type":"newt"}', "{}"]


class Page:
    """A client of a live query, with what it holds."""

    def __init__(self, harness: Harness, query: str, since: Position | None = None, held: Any = None) -> None:
        wanted = subscription(KNOWN, "creatures", {"filter": [query], "mode": ["live"]})
        self.query = query
        self.held: dict[str, Any] = dict(held or {})
        self.is_true = False
        self.place = ""
        self.snapshots = 0
        self._coming: dict[str, Any] = {}
        self._read = 0
        self.client: Client = harness.connect(since, subscription=wanted)

    def look(self) -> None:
        """Apply what has come."""
        events = self.client.heard()
        for event in events[self._read :]:
            data = json.loads(event.data)
            if event.event == "snapshot":
                self._coming |= {json.dumps(document["_id"]): document for document in data["docs"]}
            elif event.event == "live":
                if not data.get("resumed"):
                    self.held, self._coming = self._coming, {}
                    self.snapshots += 1
                assert len(self.held) == data["count"]
                self.is_true = True
            elif event.event == "changes":
                for change in data["changes"]:
                    if change["op"] == "upsert":
                        self.held[json.dumps(change["id"])] = change["doc"]
                    else:
                        self.held.pop(json.dumps(change["id"]), None)
            self.place = event.id or self.place
        self._read = len(events)


async def settle() -> None:
    """Let the reads go on to their end."""
    for _ in range(30):
        await asyncio.sleep(0)


steps = st.one_of(
    st.tuples(st.just("write"), st.lists(writes, min_size=1, max_size=4)),
    st.tuples(st.just("join"), st.sampled_from(QUERIES)),
    st.tuples(st.just("cut"), st.integers(0, 3)),
    st.tuples(st.just("slow"), st.integers(0, 3)),
    st.tuples(st.just("break"), st.sampled_from(list(ResetReason)[2:4])),
    st.tuples(st.just("pause"), st.integers(1, 3)),
    st.tuples(st.just("later"), st.sampled_from([0.5, 40.0])),
)


NEWT = {"type": "newt", "size": 7}
HERD = ("write", [("insert", number, NEWT, {"size": 1}) for number in range(6)])


@settings(deadline=None, max_examples=150)
@example(
    # A document comes, and one leaves, while the snapshot is being read.
    [
        (HERD, True),
        (("join", QUERIES[0]), False),
        (("pause", 2), False),
        (("write", [("delete", 5, NEWT, {}), ("update", 4, NEWT, {"size": 1})]), True),
        (("write", [("update", 4, NEWT, {"size": 8}), ("insert", 5, NEWT, {})]), True),
    ]
)
@example(
    # A document leaves the equality by which the set is found.
    [
        (HERD, True),
        (("join", QUERIES[1]), True),
        (("write", [("replace", 3, {"type": "crawdad"}, {})]), True),
        (("cut", 0), True),
        (("write", [("replace", 2, {"type": "crawdad"}, {})]), True),
    ]
)
@given(st.lists(st.tuples(steps, st.booleans()), max_size=25))
def test_page_holds_what_find_shows_whatever_happens(steps):
    """The flag of a step says if all reads end before the next one."""
    asyncio.run(scenario([*steps, (("pause", 1), True)]))


async def scenario(steps: list[tuple[tuple[str, Any], bool]]) -> None:
    pond = Pond()
    source = PondSource(pond)
    harness = Harness(source)
    harness.publish(checkpoint=pond.now, restarted=True)
    pages: list[Page] = []
    for (what, value), settles in steps:
        match what:
            case "write":
                changes = [change for write in value for change in pond.write(*write)]
                harness.publish(*changes, checkpoint=pond.now)
            case "join":
                pages.append(Page(harness, value))
            case "cut" if pages:
                page = pages.pop(value % len(pages))
                page.look()
                harness.list.remove(page.client.subscriber)
                since = position(page.place) if page.place else None
                pages.append(Page(harness, page.query, since if page.is_true else None, page.held))
            case "slow" if pages:
                pages[value % len(pages)].client.connection.room = 40
            case "break":
                reset = Reset(value, id=pond.now.id, key=pond.now.key, ns=["pond.creatures"])
                pond.creatures.delete_many({})
                pond.written += 1
                harness.publish(reset, checkpoint=pond.now)
            case "pause":
                for _ in range(value):
                    await asyncio.sleep(0)
            case "later":
                harness.clock.now += value
                harness.list.expire()
        if not settles:
            continue
        await settle()
        for page in pages:
            page.client.drain_slowly() if page.client.connection.buffered is not None else None
        await settle()
        for page in pages:
            page.look()
            assert page.is_true
            expected = {json.dumps(each["_id"]): each for each in pond.creatures.find(json.loads(page.query))}
            assert page.held == expected, (what, value)
    for page in pages:
        harness.list.remove(page.client.subscriber)
    harness.clock.now += 100
    harness.list.expire()
    assert not harness.result_sets
    await harness.result_sets.close()


def test_equal_queries_are_read_once_and_different_ones_apart():
    async def scenario() -> None:
        pond = Pond()
        source = PondSource(pond)
        harness = Harness(source)
        harness.publish(checkpoint=pond.now, restarted=True)
        pages = [Page(harness, QUERIES[number % 2]) for number in range(20)]
        await settle()
        assert source.reads == 2
        for page in pages:
            page.look()
            assert page.is_true

    asyncio.run(scenario())


@pytest.mark.parametrize("operation", ["insert", "update"])
def test_set_that_nobody_uses_any_more_is_dropped_with_everything(operation):
    async def scenario() -> None:
        pond = Pond()
        harness = Harness(PondSource(pond))
        harness.publish(checkpoint=pond.now, restarted=True)
        page = Page(harness, '{"type":"newt"}')
        await settle()
        harness.publish(*pond.write("insert", 1, {"type": "newt"}, {}), checkpoint=pond.now)
        harness.publish(*pond.write(operation, 1, {}, {"size": 1}), checkpoint=pond.now)
        harness.list.remove(page.client.subscriber)
        assert harness.result_sets
        harness.clock.now += 31
        harness.list.expire()
        assert not harness.result_sets

    asyncio.run(scenario())
