"""Listings: what a query holds now, read from a source that fails as the test wants it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import bson
import pytest

from brook.errors import NotReady, SnapshotTooLarge, SnapshotUnavailable
from brook.event import Batch, Position
from brook.live import listing
from brook.live.listing import Listings
from brook.settings import Settings
from brook.source import Source
from brook.subscription import Mode, Subscription
from tests.support.fakes import until

gen_test = pytest.mark.gen_test

LIVE = Subscription(namespaces=frozenset({"db.creatures"}), mode=Mode.LIVE)


class Documents(Source):
    """Parts of a collection. It fails so often, and waits where a test holds it."""

    def __init__(self, *parts: Sequence[bytes], failures: int = 0) -> None:
        self.parts = parts
        self.failures = failures
        self.moments = 0
        self.open = 0
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def events(self) -> AsyncIterator[Batch]:
        raise NotImplementedError("listings follow nothing")
        yield Batch()

    async def now(self) -> Position:
        self.moments += 1
        return Position(f"{self.moments}", f"t{self.moments}.0", exact=False)

    async def snapshot(
        self, namespace: str, query: bytes, at: Position, *, sort: bytes = b"", limit: int = 0
    ) -> AsyncGenerator[Sequence[bytes]]:
        self.open += 1
        self.reads += 1
        try:
            if self.failures:
                self.failures -= 1
                raise SnapshotUnavailable("too old")
            for part in self.parts:
                await self.gate.wait()
                yield part
        finally:
            self.open -= 1


def documents(*ids: object, text: str = "") -> list[bytes]:
    return [bson.encode({"_id": id, "text": text} if text else {"_id": id}) for id in ids]


def listings(source: Source, **options) -> Listings:
    return Listings(Settings(**options), source, asyncio.Semaphore(4))


async def read(listings: Listings, wanted: Subscription = LIVE) -> dict:
    async with listings.listing(wanted) as text:
        return json.loads(text)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(listing, "PAUSE_SECONDS", 0)


@gen_test
async def test_documents_of_all_parts_and_their_position():
    source = Documents(documents(1, 2), documents(3))
    assert await read(listings(source)) == {"docs": [{"_id": 1}, {"_id": 2}, {"_id": 3}], "position": "t1.0"}
    assert source.open == 0


@gen_test
async def test_failed_read_is_made_again_at_a_newer_position():
    source = Documents(documents(1), failures=listing.TRIES - 1)
    answer = await read(listings(source))
    assert answer == {"docs": [{"_id": 1}], "position": f"t{listing.TRIES}.0"}


@gen_test
async def test_client_is_told_to_come_back_when_every_read_fails():
    source = Documents(failures=listing.TRIES)
    with pytest.raises(NotReady, match="cannot be read now"):
        await read(listings(source))
    assert source.moments == listing.TRIES


@gen_test
async def test_malformed_document_is_left_out():
    broken = b"\x0c\0\0\0\x02a\0\x09\0\0\0\0"
    assert (await read(listings(Documents([*documents(1), broken]))))["docs"] == [{"_id": 1}]


@gen_test
async def test_too_many_documents_are_refused_and_the_read_ends():
    source = Documents(documents(1, 2), documents(3), documents(4))
    with pytest.raises(SnapshotTooLarge, match="more than 2 documents"):
        await read(listings(source, snapshot_max_documents=2))
    assert source.open == 0
    assert len((await read(listings(source, snapshot_max_documents=4)))["docs"]) == 4


@gen_test
async def test_window_may_be_larger_than_the_largest_result_set():
    source = Documents(documents(1, 2, 3))
    window = Subscription(namespaces=LIVE.namespaces, mode=Mode.LIVE, limit=3)
    assert len((await read(listings(source, snapshot_max_documents=2), window))["docs"]) == 3


@gen_test
async def test_too_many_characters_are_refused(monkeypatch):
    monkeypatch.setattr(listing, "MAX_BYTES", 100)
    with pytest.raises(SnapshotTooLarge, match="more than 100 characters"):
        await read(listings(Documents(documents(1, 2, text="x" * 60))))


@gen_test
async def test_small_answers_do_not_wait_for_clients_that_have_a_large_one():
    source = Documents(documents(1, text="x" * 2000))
    shared = listings(source, queue_max_bytes=1024, snapshot_cursors=2)
    async with shared.listing(LIVE), shared.listing(LIVE), asyncio.timeout(5):
        source.parts = (documents(2),)
        assert (await read(shared))["docs"] == [{"_id": 2}]


@gen_test
async def test_large_answers_wait_for_clients_that_have_one():
    source = Documents(documents(1, text="x" * 2000), documents(2))
    shared = listings(source, queue_max_bytes=1024, snapshot_cursors=1)
    async with shared.listing(LIVE):
        second = asyncio.create_task(read(shared))
        await until(lambda: source.reads == 2 and not source.open)
        await asyncio.sleep(0.01)
        assert not second.done()
        assert source.reads == 2  # the answer is not kept while it waits
    assert len((await second)["docs"]) == 2


@gen_test
async def test_small_answer_gives_its_place_to_the_next():
    source = Documents(documents(1))
    shared = listings(source, queue_max_bytes=1024, snapshot_cursors=1)
    async with shared.listing(LIVE), asyncio.timeout(5):
        source.parts = (documents(2, text="x" * 2000),)
        assert (await read(shared))["docs"][0]["_id"] == 2


@gen_test
async def test_wait_for_a_place_is_bounded(monkeypatch):
    monkeypatch.setattr(listing, "TURN_SECONDS", 0.01)
    source = Documents(documents(1, text="x" * 2000))
    shared = listings(source, queue_max_bytes=1024, snapshot_cursors=1)
    async with shared.listing(LIVE), asyncio.timeout(5):
        with pytest.raises(NotReady, match="too many large answers are in work"):
            await read(shared)
    assert (await read(shared))["docs"][0]["_id"] == 1


@gen_test
async def test_wait_for_a_read_is_bounded(monkeypatch):
    monkeypatch.setattr(listing, "TURN_SECONDS", 0.01)
    reads = asyncio.Semaphore(1)
    shared = Listings(Settings(), Documents(documents(1)), reads)
    async with reads, asyncio.timeout(5):
        with pytest.raises(NotReady, match="too many collections are read"):
            await read(shared)
    assert (await read(shared))["docs"] == [{"_id": 1}]
