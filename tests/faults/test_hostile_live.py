"""Live queries that are as expensive as they can be, and a client beside them that must not notice."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from typing import Any
from urllib.parse import quote

import psutil
import pytest

from tests.support.live_member import LiveMember
from tests.support.processes import ServerProcess
from tests.support.raw_client import RawClient

# Time for anything at all on a busy machine. Nothing here is measured by it.
PATIENCE_SECONDS = 60


@pytest.fixture
def server(sandbox, database, start_server) -> ServerProcess:
    # The history's 64 MB would hide what the live queries take.
    return start_server("--mongo", sandbox.uri, "--database", database.name, "--history-max-bytes=1000000")


def live(filter: Any, **more: str) -> str:
    parameters = {"filter": json.dumps(filter), **more}
    return "/stream?mode=live&" + "&".join(f"{name}={quote(value)}" for name, value in parameters.items())


@asynccontextmanager
async def following(server: ServerProcess, path: str) -> AsyncIterator[LiveMember]:
    member = LiveMember(server.port, path)
    task = asyncio.create_task(member.run())
    try:
        yield member
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.02)


def memory_mb(server: ServerProcess) -> float:
    return psutil.Process(server.pid).memory_info().rss / 2**20


async def check_beside(server: ServerProcess, database: Any, number: int) -> None:
    """Another client is sent its change, whatever goes on."""
    path = "/stream?filter=" + quote('{"beside":true}')
    with closing(await (await RawClient(server.port, path).connect()).opened(PATIENCE_SECONDS)) as client:
        await asyncio.to_thread(database.creatures.insert_one, {"_id": f"beside {number}", "beside": True})
        assert json.loads((await client.next(PATIENCE_SECONDS)).data)["_id"] == f"beside {number}"


def test_hundred_thousand_documents_are_held_in_bounded_memory(server, database):
    count = 100_000
    for start in range(0, count, 10_000):
        database.creatures.insert_many(
            [{"_id": n, "type": "newt", "n": n} for n in range(start, start + 10_000)]
        )

    async def scenario() -> None:
        before = memory_mb(server)
        async with following(server, live({"type": "newt"}, fields="n")) as first:
            # While the snapshot is read and sent.
            await check_beside(server, database, 1)
            await until(lambda: len(first.documents) == count)
            held = memory_mb(server) - before
            async with following(server, live({"type": "newt"}, fields="n")) as second:
                await until(lambda: len(second.documents) == count)
                database.creatures.update_one({"_id": 5}, {"$set": {"n": -5}})
                await until(lambda: first.documents[5]["n"] == second.documents[5]["n"] == -5)
                more = memory_mb(server) - before
        print(f"\n{held:.0f} MB for the first client, {more:.0f} MB with the second")
        # Some 200 bytes for each document, and what the allocator keeps of the read, which differs from
        # run to run. The documents themselves are not kept, and a further client costs next to nothing.
        assert held < 120
        assert more - held < 15

    asyncio.run(scenario())


def test_documents_of_a_megabyte_are_sent_in_pieces(server, database):
    count, text = 40, "x" * 1_000_000
    for number in range(count):
        database.creatures.insert_one({"_id": number, "type": "whale", "text": text})

    async def scenario() -> None:
        before = memory_mb(server)
        async with following(server, live({"type": "whale"})) as member:
            await check_beside(server, database, 2)
            await until(lambda: len(member.documents) == count)
            database.creatures.update_many({}, {"$set": {"seen": True}})
            await until(lambda: all(document.get("seen") for document in member.documents.values()))
        grown = memory_mb(server) - before
        print(f"\n{grown:.0f} MB")
        # Some documents are on their way.
        assert grown < 180

    asyncio.run(scenario())


def test_ten_thousand_documents_leave_together(server, database):
    count = 10_000
    database.creatures.insert_many([{"_id": n, "type": "newt", "n": n} for n in range(count)])

    async def scenario() -> None:
        async with (
            following(server, live({"type": "newt"})) as all_of_them,
            following(server, live({"type": "newt", "n": {"$lt": 100}})) as some,
            following(server, live({"type": "toad"})) as others,
        ):
            await until(lambda: len(all_of_them.documents) == count and len(some.documents) == 100)
            with database.client.start_session() as session, session.start_transaction():
                database.creatures.update_many({}, {"$set": {"type": "toad"}}, session=session)
            await check_beside(server, database, 3)
            await until(lambda: not all_of_them.documents and not some.documents)
            await until(lambda: len(others.documents) == count)
            assert all_of_them.connects == some.connects == others.connects == 1

    asyncio.run(scenario())


def test_everything_enters_and_leaves_at_each_write(server, database):
    count, rounds = 200, 40
    database.creatures.insert_many([{"_id": n, "on": False} for n in range(count)])

    async def scenario() -> None:
        async with following(server, live({"on": True})) as on, following(server, live({"on": False})) as off:
            await until(lambda: len(off.documents) == count)
            for number in range(rounds):
                await asyncio.to_thread(
                    database.creatures.update_many, {}, {"$set": {"on": number % 2 == 0, "round": number}}
                )
            await check_beside(server, database, 4)
            await until(lambda: not on.documents and len(off.documents) == count)
            await until(lambda: all(one["round"] == rounds - 1 for one in off.documents.values()))

    asyncio.run(scenario())


def test_spare_of_a_window_is_used_up_again_and_again(server, database):
    chance = random.Random(7)
    database.creatures.insert_many([{"_id": n, "n": n} for n in range(3000)])

    async def scenario() -> None:
        path = live({"n": {"$gte": 0}}, sort='{"n":1}', limit="10")
        async with following(server, path) as member:
            await until(lambda: len(member.documents) == 10)
            for number in range(30):
                # More than the window and its spare documents.
                lowest = [one["_id"] for one in database.creatures.find().sort("n", 1).limit(60)]
                await asyncio.to_thread(database.creatures.delete_many, {"_id": {"$in": lowest}})
                if number % 5 == 0:
                    row = {"_id": f"new {number}", "n": chance.randrange(3000)}
                    await asyncio.to_thread(database.creatures.insert_one, row)
            await check_beside(server, database, 5)
            wanted = {
                one["_id"] for one in database.creatures.find({"n": {"$gte": 0}}).sort("n", 1).limit(10)
            }
            await until(lambda: set(member.documents) == wanted)

    asyncio.run(scenario())
