"""Snapshots share a few connections; a broken one is replaced, and none is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import bson
import pytest

from brook.errors import InvalidParameter
from brook.settings import Settings
from sources.mongo import MongoSource
from tests.support.proxy import Proxy


@pytest.fixture
def proxy(sandbox) -> Iterator[Proxy]:
    with Proxy(sandbox.nodes[0].port) as proxy:
        yield proxy


@asynccontextmanager
async def opened(uri: str, database, **settings: Any) -> AsyncIterator[MongoSource]:
    source = MongoSource(uri, Settings(database=database.name, warm_up_seconds=0, **settings))
    await source.open()
    try:
        yield source
    finally:
        await source.close()


async def read(source: MongoSource, database, sort: bytes = b"") -> list[Any]:
    namespace = f"{database.name}.creatures"
    parts = source.snapshot(namespace, bson.encode({}), await source.now(), sort=sort)
    return [bson.decode(document)["_id"] async for part in parts for document in part]


def test_reads_one_after_the_other_need_one_connection(proxy, database):
    database.creatures.insert_many([{"_id": n} for n in range(3)])

    async def scenario() -> None:
        async with opened(proxy.uri, database) as source:
            await read(source, database)
            accepted = proxy.accepted
            for _ in range(50):
                assert await read(source, database) == [0, 1, 2]
            assert proxy.accepted - accepted <= 2, "only the driver's own"

    asyncio.run(scenario())


@pytest.mark.parametrize("noticed", [True, False])
def test_connection_that_was_lost_while_idle_is_replaced(proxy, database, noticed):
    database.creatures.insert_one({"_id": 1})

    async def scenario() -> None:
        async with opened(proxy.uri, database) as source:
            at = await source.now()
            for _ in range(2):
                parts = source.snapshot(f"{database.name}.creatures", bson.encode({}), at)
                assert [len(part) async for part in parts] == [1]
                proxy.cut()
                proxy.restore()
                if noticed:
                    await asyncio.sleep(0.05)

    asyncio.run(scenario())


def test_abandoned_read_leaves_no_cursor_and_the_next_one_is_whole(sandbox, database):
    database.creatures.insert_many([{"_id": n} for n in range(2500)])

    def cursors() -> int:
        status = database.client.admin.command("serverStatus")
        return int(status["metrics"]["cursor"]["open"]["total"])

    async def scenario() -> None:
        async with opened(sandbox.uri, database) as source:
            before = cursors()
            namespace, at = f"{database.name}.creatures", await source.now()
            async with aclosing(source.snapshot(namespace, bson.encode({}), at)) as parts:
                assert len(await anext(parts)) == 1000
                assert cursors() == before + 1
            async with asyncio.timeout(10):
                while cursors() > before:
                    await asyncio.sleep(0.01)
            assert await read(source, database) == list(range(2500))

    asyncio.run(scenario())


def test_cancelled_read_does_not_answer_the_next_one(sandbox, database):
    database.creatures.insert_many([{"_id": n} for n in range(500)])

    async def scenario() -> None:
        async with opened(sandbox.uri, database) as source:
            for turns in range(1, 12):
                task = asyncio.create_task(read(source, database))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                assert await read(source, database) == list(range(500))

    asyncio.run(scenario())


def test_refused_query_does_not_cost_the_connection(proxy, database):
    database.creatures.insert_one({"_id": 1, "a": [1, 2], "b": [3, 4]})

    async def scenario() -> None:
        async with opened(proxy.uri, database) as source:
            await read(source, database)
            accepted = proxy.accepted
            for _ in range(10):
                with pytest.raises(InvalidParameter):
                    await read(source, database, bson.encode({"a": 1, "b": 1}))
            assert await read(source, database) == [1]
            assert proxy.accepted - accepted <= 2

    asyncio.run(scenario())


@pytest.mark.parametrize("most", ["4", "8"])
def test_idle_connections_leave_room_for_the_drivers_own(sandbox, database, most):
    """With `maxPoolSize` in the URI: one is the change stream's."""
    database.creatures.insert_one({"_id": 1})
    glue = "&" if "?" in sandbox.uri else "/?"

    async def scenario() -> None:
        async with opened(f"{sandbox.uri}{glue}maxPoolSize={most}", database) as source, asyncio.timeout(20):
            for _ in range(3):
                held = await asyncio.gather(*(read(source, database) for _ in range(2 * int(most))))
                assert held == [[1]] * len(held)
            await asyncio.gather(*(source.now() for _ in range(2 * int(most))))

    asyncio.run(scenario())


def test_closed_source_leaves_no_connection(proxy, database):
    database.creatures.insert_one({"_id": 1})

    async def scenario() -> None:
        async with opened(proxy.uri, database) as source:
            await asyncio.gather(*(read(source, database) for _ in range(10)))
            assert proxy.open
        async with asyncio.timeout(10):
            while proxy.open:
                await asyncio.sleep(0.01)

    asyncio.run(scenario())
