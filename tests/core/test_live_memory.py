"""The memory of many queries, each of a few documents: most of it must not be the bookkeeping."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from collections.abc import AsyncGenerator, Sequence

import bson

from brook.event import Position
from brook.parameters import subscription
from tests.support.fakes import Harness
from tests.support.pond import KNOWN, Pond, PondSource

QUERIES = 500
DOCUMENTS = 10


class OwnedSource(PondSource):
    """Ten documents for each owner."""

    async def snapshot(
        self, namespace: str, query: bytes, at: Position, *, sort: bytes = b"", limit: int = 0
    ) -> AsyncGenerator[Sequence[bytes]]:
        owner = bson.decode(query)["owner"]
        yield [bson.encode({"_id": bson.ObjectId(), "n": n, "owner": owner}) for n in range(DOCUMENTS)]


async def open_queries(harness: Harness, first: int, count: int) -> None:
    for owner in range(first, first + count):
        texts = {"filter": [json.dumps({"owner": owner})], "mode": ["live"]}
        harness.connect(subscription=subscription(KNOWN, "creatures", texts))
        await asyncio.sleep(0)
    while harness.result_sets.statistics().reads:
        await asyncio.sleep(0)
    # The snapshots serve nobody any more.
    harness.clock.now += 2
    harness.list.expire()
    gc.collect()


def test_query_of_ten_documents_costs_few_kilobytes():
    """8.2 kB with the fakes. A dict for each document of one query would make it 10.6."""

    async def scenario() -> float:
        pond = Pond()
        harness = Harness(OwnedSource(pond))
        harness.publish(checkpoint=pond.now, restarted=True)
        await open_queries(harness, 0, 20)
        tracemalloc.start()
        try:
            await open_queries(harness, 20, QUERIES)
            size, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        return size / QUERIES

    cost = asyncio.run(scenario())
    print(f"{cost:.0f} bytes")
    assert cost < 10_000
