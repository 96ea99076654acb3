"""Result sets against a model: after every step, a live client holds what `find` shows."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brook.changes.resume_token import event_key, position
from brook.errors import InvalidParameter
from brook.event import Reset, ResetReason
from brook.live import open_set, window
from tests.support.fakes import Harness
from tests.support.pages import QUERIES, Page, check, settle, wanted
from tests.support.pond import Pond, PondSource, writes

NAMESPACE = "pond.creatures"
BUNDLES = [
    ["large", "newts"],
    ["all", "number", "first"],
    ["sorted", "first", "newts"],
    ["feed"],
    ["feed", "newts", "first"],
    ["slow-first", "large", "slow"],
]
ALONE = [name for name in QUERIES if name != "feed"]


steps = st.one_of(
    st.tuples(st.just("write"), st.lists(writes, min_size=1, max_size=4)),
    st.tuples(st.just("join"), st.sampled_from([*ALONE, *BUNDLES])),
    st.tuples(st.just("cut"), st.integers(0, 3)),
    st.tuples(st.just("slow"), st.integers(0, 3)),
    st.tuples(st.just("break"), st.sampled_from(list(ResetReason)[2:4])),
    st.tuples(st.just("pause"), st.integers(1, 24)),
    st.tuples(st.just("later"), st.sampled_from([0.5, 40.0])),
)


NEWT = {"type": "newt", "size": 7}
HERD = ("write", [("insert", number, NEWT, {"size": 1}) for number in range(6)])


@pytest.fixture(autouse=True, scope="module")
def little_to_spare() -> Iterator[None]:
    """Windows with one spare document: so they are read again often."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window, "SPARE", 1)
        patch.setattr(open_set, "PAUSE_SECONDS", 0)
        yield


@settings(deadline=None, max_examples=150)
@example(
    # A client joins while changes wait for the pace of its query, and a document of theirs is deleted.
    [
        (("join", "slow"), False),
        (("join", "slow-number"), False),
        (("join", "slow-first"), True),
        (("write", [("insert", 1, NEWT, {})]), False),
        (("write", [("insert", 2, {**NEWT, "size": 9}, {}), ("insert", 3, {**NEWT, "size": 8}, {})]), False),
        (("join", "slow"), False),
        (("join", "slow-number"), False),
        (("join", "slow-first"), False),
        (("pause", 24), False),
        (("write", [("delete", 2, NEWT, {})]), True),
    ]
)
@example(
    # A document comes, and one leaves, while the snapshot is being read.
    [
        (HERD, True),
        (("join", "large"), False),
        (("pause", 2), False),
        (("write", [("delete", 5, NEWT, {}), ("update", 4, NEWT, {"size": 1})]), True),
        (("write", [("update", 4, NEWT, {"size": 8}), ("insert", 5, NEWT, {})]), True),
    ]
)
@example(
    # A document leaves the equality by which the set is found, while the set is being read.
    [
        (HERD, True),
        (("join", "newts"), False),
        (("pause", 5), False),
        (("write", [("replace", 0, {"type": "crawdad"}, {})]), True),
    ]
)
@example(
    # A drop, after a reader of a bundle was sent one of its sets, and before the others were read.
    [
        (("join", "sorted"), True),
        (("join", ["all", "number", "first"]), False),
        (("write", [("insert", 1, NEWT, {})]), True),
        (("join", ["sorted", "first", "newts"]), False),
        (("break", ResetReason.COLLECTION_DROPPED), True),
    ]
)
@example(
    # A document enters an equality, and leaves it before the pace of the query has passed.
    [
        (("join", "slow-number"), True),
        (("write", [("insert", 1, NEWT, {})]), True),
        (("write", [("insert", 2, NEWT, {})]), False),
        (("write", [("replace", 2, {"type": "crawdad"}, {})]), True),
    ]
)
@example(
    # Documents go in front of the one whose `_id` is null, which as "before" would mean the end.
    [
        (("write", [("insert", None, NEWT, {}), ("insert", 1, {**NEWT, "size": 3, "legs": [3]}, {})]), True),
        (("join", "first"), True),
        (("join", "sorted"), True),
        (("write", [("insert", 2, {**NEWT, "size": 9}, {})]), True),
        (("write", [("update", 1, NEWT, {"size": 8})]), True),
        (("write", [("insert", 3, {**NEWT, "size": 8, "legs": []}, {})]), True),
    ]
)
@example(
    # A document leaves the equality by which the set is found.
    [
        (HERD, True),
        (("join", "newts"), True),
        (("write", [("replace", 3, {"type": "crawdad"}, {})]), True),
        (("cut", 0), True),
        (("write", [("replace", 2, {"type": "crawdad"}, {})]), True),
    ]
)
@given(st.lists(st.tuples(steps, st.booleans()), min_size=5, max_size=25))
def test_page_holds_what_find_shows_whatever_happens(steps):
    """The flag of a step says if all reads end before the next one."""
    asyncio.run(scenario(steps))


def some_steps(dice: random.Random) -> list[tuple[tuple[str, Any], bool]]:
    """Steps in which more happens than in those that a search begins with."""

    def write() -> tuple[str, int | None, dict[str, Any], dict[str, Any]]:
        document = {"type": dice.choice(["newt", "crawdad"]), "size": dice.randrange(10)}
        if dice.random() < 0.3:
            document["mood"] = dice.choice([None, "a", "b"])
        if dice.random() < 0.3:
            document["legs"] = [dice.randrange(4) for _ in range(dice.randrange(3))]
        operation = dice.choice(["insert", "update", "replace", "delete"])
        return operation, dice.choice([None, 0, 1, 2, 3, 4, 5]), document, {"size": dice.randrange(10)}

    def step() -> tuple[str, Any]:
        match dice.choice(["write"] * 6 + ["join"] * 3 + ["cut", "slow", "break", "pause", "later"]):
            case "write":
                return "write", [write() for _ in range(dice.randrange(1, 5))]
            case "join":
                return "join", dice.choice([*ALONE, *BUNDLES])
            case "break":
                return "break", dice.choice(list(ResetReason)[2:4])
            case "later":
                return "later", dice.choice([0.5, 40.0])
            case what:
                return what, dice.randrange(1, 24)

    return [(step(), dice.random() < 0.6) for _ in range(25)]


@pytest.mark.parametrize("seed", range(10))
def test_page_holds_what_find_shows_in_long_runs(seed):
    for part in range(40):
        asyncio.run(scenario(some_steps(random.Random(seed * 1000 + part))))


class World:
    """A collection, a server and its pages; a test takes one step after the other."""

    def __init__(self) -> None:
        self.pond = Pond()
        self.harness = Harness(PondSource(self.pond))
        self.harness.publish(checkpoint=self.pond.now, restarted=True)
        self.pages: dict[Page, list[tuple[str, Any]]] = {}
        """The pages, each with the changes that its part "feed" should have brought."""

    async def step(self, what: str, value: Any) -> None:
        match what:
            case "write":
                changes = [change for write in value for change in self.pond.write(*write)]
                self.expect([(each.operation, each.decode().document_id) for each in changes])
                self.harness.publish(*changes, checkpoint=self.pond.now)
            case "join":
                self.pages[Page(self.harness, value)] = []
            case "cut" if self.pages:
                self.cut(self.some_page(value))
            case "slow" if self.pages:
                self.some_page(value).client.connection.room = 40
            case "break":
                self.pond.creatures.delete_many({})
                self.pond.written += 1
                now = self.pond.now
                key = event_key(f"82{self.pond.written:08X}00000000", 0)
                self.expect([("reset", None)])
                self.harness.publish(Reset(value, id=now.id, key=key, ns=[NAMESPACE]), checkpoint=now)
            case "pause":
                for _ in range(value):
                    await asyncio.sleep(0)
            case "later":
                self.harness.clock.now += value
                self.harness.list.expire()
        self.harness.timers.ring()

    def some_page(self, number: int) -> Page:
        return list(self.pages)[number % len(self.pages)]

    def expect(self, changes: list[tuple[str, Any]]) -> None:
        """Expect changes of each page that has a position."""
        for page, heard in self.pages.items():
            page.look()
            if page.begun:
                heard += changes

    def cut(self, page: Page) -> None:
        """Cut a page off. It comes back at its position; one that was never true begins anew."""
        page.look()
        self.harness.list.remove(page.client.subscriber)
        heard = self.pages.pop(page)
        if page.place and page.is_true:
            later = Page(self.harness, page.asked, position(page.place), page.copies)
            later.heard = page.heard
            self.pages[later] = heard
        else:
            self.pages[Page(self.harness, page.asked)] = []

    async def settle(self) -> None:
        """Let all reads end, all paces pass, and all slow pages read."""
        await settle()
        if self.harness.timers:
            # Only then: a snapshot is shared for no longer than that.
            self.harness.clock.now += 1.0
            self.harness.timers.ring()
            await settle()
        for page in list(self.pages):
            if page.client.connection.closed:
                # Its collection broke in the middle of a snapshot: it comes back, as a browser would.
                del self.pages[page]
                self.pages[Page(self.harness, page.asked)] = []
        await settle()
        for page in self.pages:
            if page.client.connection.buffered is not None:
                page.client.drain_slowly()
            else:
                page.client.drain()
        await settle()

    def check(self) -> None:
        for page, heard in self.pages.items():
            page.look()
            check(self.pond, page)
            assert "feed" not in page.asked or page.heard == heard

    async def end(self) -> None:
        """Let every page leave, and see that nothing is left of them."""
        for page in self.pages:
            self.harness.list.remove(page.client.subscriber)
        self.harness.clock.now += 100
        self.harness.list.expire()
        assert not self.harness.result_sets
        await self.harness.result_sets.close()


async def scenario(steps: list[tuple[tuple[str, Any], bool]]) -> None:
    world = World()
    for (what, value), settles in [*steps, (("pause", 1), True)]:
        await world.step(what, value)
        if settles:
            await world.settle()
            world.check()
    await world.end()


class RefusingSource(PondSource):
    async def snapshot(self, *_: Any, **__: Any) -> AsyncGenerator[Sequence[bytes]]:
        raise InvalidParameter("too old")
        yield ()


def test_query_that_is_refused_is_told_so_once_and_ended():
    async def scenario() -> None:
        pond = Pond()
        harness = Harness(RefusingSource(pond))
        harness.publish(checkpoint=pond.now, restarted=True)
        page = Page(harness, "newts")
        await settle()
        (event,) = page.client.heard()
        assert (event.event, json.loads(event.data)) == (
            "problem",
            {"code": "invalid-parameter", "detail": "too old"},
        )
        assert page.client.connection.closed
        await harness.result_sets.close()

    asyncio.run(scenario())


def test_equal_queries_are_read_once_and_different_ones_apart():
    async def scenario() -> None:
        pond = Pond()
        source = PondSource(pond)
        harness = Harness(source)
        harness.publish(checkpoint=pond.now, restarted=True)
        pages = [Page(harness, ["large", "newts"][number % 2]) for number in range(20)]
        await settle()
        assert source.reads == 2
        for page in pages:
            page.look()
            assert page.is_true

    asyncio.run(scenario())


def calls_of_a_change(queries: int) -> int:
    """The number of function calls for a change that concerns one of some queries."""

    async def scenario() -> int:
        pond = Pond()
        harness = Harness(PondSource(pond))
        harness.publish(checkpoint=pond.now, restarted=True)
        for owner in range(queries):
            harness.connect(subscription=wanted(json.dumps({"owner": owner}), mode="live"))
        await settle()
        calls = 0

        def count(frame: Any, event: str, argument: Any) -> None:
            nonlocal calls
            calls += event == "call"

        changes = pond.write("insert", 1, {"owner": 1}, {})
        sys.setprofile(count)
        try:
            harness.publish(*changes, checkpoint=pond.now)
        finally:
            sys.setprofile(None)
        return calls

    return asyncio.run(scenario())


def test_change_costs_nothing_for_the_queries_that_it_does_not_concern():
    assert calls_of_a_change(200) < calls_of_a_change(10) + 50


@pytest.mark.parametrize("operation", ["insert", "update"])
def test_set_that_nobody_uses_any_more_is_dropped_with_everything(operation):
    async def scenario() -> None:
        pond = Pond()
        harness = Harness(PondSource(pond))
        harness.publish(checkpoint=pond.now, restarted=True)
        page = Page(harness, "newts")
        await settle()
        harness.publish(*pond.write("insert", 1, {"type": "newt"}, {}), checkpoint=pond.now)
        harness.publish(*pond.write(operation, 1, {}, {"size": 1}), checkpoint=pond.now)
        harness.list.remove(page.client.subscriber)
        assert harness.result_sets
        harness.clock.now += 31
        harness.list.expire()
        assert not harness.result_sets

    asyncio.run(scenario())
