"""A transaction that comes in two batches: nobody is given a position after it before it is whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import bson
import pytest

from brook.changes.change import Change
from brook.changes.resume_token import event_id, event_key, position
from brook.event import Batch, Position
from tests.support.fakes import Harness
from tests.support.pages import Page, check, settle
from tests.support.pond import Pond, PondSource

NEWT = {"type": "newt", "size": 7}
ASKED: list[Any] = ["newts", "number", "first", "slow", ["feed"], ["feed", "newts"], ["newts", "first"]]


class WholeSource(PondSource):
    """Reads the whole transaction, as MongoDB does at its cluster time."""

    async def snapshot(
        self, namespace: str, query: bytes, at: Position, *, sort: bytes = b"", limit: int = 0
    ) -> AsyncGenerator[Sequence[bytes]]:
        now = self.pond.now
        assert at.key[:16] == now.key[:16]
        async for part in super().snapshot(namespace, query, now, sort=sort, limit=limit):
            yield part


def inserted_together(pond: Pond) -> tuple[Change, Change]:
    """Two inserts of one cluster time."""
    before = pond.written
    changes = [*pond.write("insert", 1, NEWT, {}), *pond.write("insert", 2, NEWT, {})]
    pond.written = before + 1
    tokens = [f"82{pond.written:08X}000000000{number}" for number in range(2)]
    first, second = (
        Change(event_id(token), "insert", bson.encode(bson.decode(change.raw)), event_key(token, place))
        for place, (token, change) in enumerate(zip(tokens, changes, strict=True))
    )
    return first, second


@pytest.mark.parametrize("between", [[], [Batch()]], ids=["", "empty"])
@pytest.mark.parametrize("nobody", [False, True], ids=["", "nobody-before"])
@pytest.mark.parametrize("asked", ASKED, ids=json.dumps)
def test_page_that_is_cut_off_inside_hears_all_of_it(asked, nobody, between):
    async def scenario() -> None:
        pond = Pond()
        harness = Harness(WholeSource(pond))
        harness.publish(checkpoint=pond.now, restarted=True)
        early = [] if nobody else [Page(harness, asked)]
        await settle()
        first, second = inserted_together(pond)
        harness.publish(first, unfinished=True)
        for batch in between:
            harness.list.publish(batch)
        pages = [*early, Page(harness, asked)]
        await settle()
        harness.clock.now += 1.0
        harness.timers.ring()
        await settle()
        back = []
        for page in pages:
            page.look()
            assert not page.place or position(page.place) < pond.now
            if page.place and page.is_true:
                harness.list.remove(page.client.subscriber)
                later = Page(harness, asked, position(page.place), page.copies)
                later.heard = page.heard
                back.append(later)
        assert back
        await settle()
        harness.publish(second, checkpoint=pond.now)
        await settle()
        harness.clock.now += 1.0
        harness.timers.ring()
        await settle()
        for page in back:
            page.look()
            check(pond, page)
            assert "feed" not in page.asked or ("insert", 2) in page.heard
        await harness.result_sets.close()

    asyncio.run(scenario())
