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

from brook.changes import resume_token
from tests.support.live_member import LiveMember
from tests.support.processes import ServerProcess
from tests.support.raw_client import RawClient

# Time for anything at all on a busy machine. Nothing here is measured by it.
PATIENCE_SECONDS = 60

# Documents of the client beside. The hostile queries and writes leave them alone.
BESIDE = {"beside": True}
OTHERS = {"beside": {"$exists": False}}


@pytest.fixture
def server(sandbox, database, start_server) -> ServerProcess:
    # The history's 64 MB would hide what the live queries take.
    return start_server("--mongo", sandbox.uri, "--database", database.name, "--history-max-bytes=1000000")


class Query:
    """A live query, and what `find` says of it."""

    def __init__(self, filter: Any, sort: dict[str, int] | None = None, limit: int = 0) -> None:
        self.filter = filter
        self.sort = sort
        self.limit = limit

    @property
    def path(self) -> str:
        parameters = {"filter": json.dumps(self.filter)}
        if self.sort:
            parameters |= {"sort": json.dumps(self.sort), "limit": str(self.limit)}
        return "/stream?mode=live&" + "&".join(f"{name}={quote(each)}" for name, each in parameters.items())

    async def check(self, database: Any, member: LiveMember) -> None:
        """Compare whole documents; of a window their order as well."""
        cursor = database.creatures.find(self.filter).limit(self.limit)
        if self.sort:
            cursor = cursor.sort([*self.sort.items(), ("_id", 1)])
        found = await asyncio.to_thread(list, cursor)
        expected = {document["_id"]: document for document in found}
        assert member.documents == expected
        assert not self.sort or list(member.documents) == list(expected)


@asynccontextmanager
async def following(server: ServerProcess, query: Query) -> AsyncIterator[LiveMember]:
    """A client of a query, that comes back when it is cut off."""
    member = LiveMember(server.port, query.path)
    task = asyncio.create_task(member.run())
    try:
        yield member
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Beside:
    """Another client, with a query of its own, and the writer of its documents."""

    def __init__(self, database: Any, member: LiveMember) -> None:
        self._database = database
        self._member = member
        self._number = 0

    async def until(self, holds: Callable[[], bool]) -> int:
        """Write, and wait for each document, until something holds, and once more.

        Returns the number of rounds before it held.
        """
        rounds = 0
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds():
                await self._round()
                rounds += 1
            await self._round()
        return rounds

    async def _round(self) -> None:
        self._number += 1
        id = f"beside {self._number}"
        await asyncio.to_thread(self._database.creatures.insert_one, {"_id": id, **BESIDE})
        while id not in self._member.documents:
            await asyncio.sleep(0.005)


@asynccontextmanager
async def someone_beside(server: ServerProcess, database: Any) -> AsyncIterator[Beside]:
    """The client beside. In the end it holds what `find` shows, by one snapshot and the changes since."""
    await caught_up(server, database)
    query = Query(BESIDE)
    async with following(server, query) as member:
        yield Beside(database, member)
        await query.check(database, member)
        assert member.connects == member.snapshots == 1


async def caught_up(server: ServerProcess, database: Any) -> None:
    """Wait until the server has read what was written before: else its backlog is measured."""
    time = database.client.admin.command("ping")["operationTime"]
    wanted = resume_token.checkpoint((time.time, time.inc))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with closing(await (await RawClient(server.port).connect()).opened()) as client:
                if resume_token.position(client.parser.last_id) >= wanted:
                    return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def bounded(server: ServerProcess, megabytes: int) -> AsyncIterator[None]:
    """Expect the server's memory to grow by less than that, at any time."""
    process = psutil.Process(server.pid)
    before = highest = process.memory_info().rss

    async def watch() -> None:
        nonlocal highest
        while True:
            highest = max(highest, process.memory_info().rss)
            await asyncio.sleep(0.05)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()
    grown = (highest - before) / 2**20
    print(f"\n{grown:.0f} MB of at most {megabytes}")
    assert grown < megabytes


def insert_newts(database: Any, count: int) -> None:
    for start in range(0, count, 10_000):
        numbers = range(start, min(start + 10_000, count))
        database.creatures.insert_many([{"_id": n, "type": "newt", "n": n} for n in numbers])


def test_hundred_thousand_documents_are_held_in_bounded_memory(server, database):
    count = 100_000
    insert_newts(database, count)
    newts = Query({"type": "newt"})

    async def scenario() -> None:
        # Some 200 bytes for each document, and what the allocator keeps of the read, which differs from run
        # to run. The documents themselves are not kept.
        async with (
            bounded(server, 130),
            someone_beside(server, database) as beside,
            following(server, newts) as first,
        ):
            # Else the snapshot has held the other client up.
            assert await beside.until(lambda: len(first.documents) == count) >= 3
            # A further client costs no more than its read.
            async with bounded(server, 50), following(server, newts) as second:
                await beside.until(lambda: len(second.documents) == count)
                database.creatures.update_one({"_id": 5}, {"$set": {"n": -5}})
                await beside.until(lambda: first.documents[5]["n"] == second.documents[5]["n"] == -5)
                await newts.check(database, second)
            await newts.check(database, first)

    asyncio.run(scenario())


def test_documents_of_a_megabyte_are_sent_in_pieces(server, database):
    count, text = 40, "x" * 1_000_000
    for number in range(count):
        database.creatures.insert_one({"_id": number, "type": "whale", "text": text})
    whales = Query({"type": "whale"})

    async def scenario() -> None:
        async with someone_beside(server, database) as beside, following(server, whales) as member:
            # Some pieces of the snapshot are on their way.
            async with bounded(server, 250):
                await beside.until(lambda: len(member.documents) == count)
            # In the log, 400 updates for one batch. Their 400 MB come as documents, as text and as bytes.
            async with bounded(server, 200):
                for seen in range(1, 11):
                    await asyncio.to_thread(database.creatures.update_many, OTHERS, {"$set": {"seen": seen}})
                await beside.until(lambda: all(each.get("seen") == 10 for each in member.documents.values()))
            await whales.check(database, member)

    asyncio.run(scenario())


def test_ten_thousand_documents_leave_together(server, database):
    count = 10_000
    insert_newts(database, count)
    queries = [Query({"type": "newt"}), Query({"type": "newt", "n": {"$lt": 100}}), Query({"type": "toad"})]

    async def scenario() -> None:
        async with (
            bounded(server, 120),
            someone_beside(server, database) as beside,
            following(server, queries[0]) as newts,
            following(server, queries[1]) as some,
            following(server, queries[2]) as toads,
        ):
            await beside.until(lambda: len(newts.documents) == count and len(some.documents) == 100)
            await asyncio.to_thread(change_together, database)
            await beside.until(lambda: not newts.documents and not some.documents)
            await beside.until(lambda: len(toads.documents) == count)
            for query, member in zip(queries, (newts, some, toads), strict=True):
                await query.check(database, member)
                assert member.connects == 1

    asyncio.run(scenario())


def change_together(database: Any) -> None:
    with database.client.start_session() as session, session.start_transaction():
        database.creatures.update_many(OTHERS, {"$set": {"type": "toad"}}, session=session)


def test_everything_enters_and_leaves_at_each_write(server, database):
    count, rounds = 200, 40
    database.creatures.insert_many([{"_id": n, "on": False} for n in range(count)])
    queries = [Query({"on": True}), Query({"on": False})]

    async def scenario() -> None:
        async with (
            bounded(server, 80),
            someone_beside(server, database) as beside,
            following(server, queries[0]) as on,
            following(server, queries[1]) as off,
        ):
            await beside.until(lambda: len(off.documents) == count)
            for number in range(rounds):
                change = {"$set": {"on": number % 2 == 0, "round": number}}
                await asyncio.to_thread(database.creatures.update_many, OTHERS, change)
            await beside.until(lambda: not on.documents and len(off.documents) == count)
            await beside.until(lambda: all(each["round"] == rounds - 1 for each in off.documents.values()))
            for query, member in zip(queries, (on, off), strict=True):
                await query.check(database, member)

    asyncio.run(scenario())


def test_spare_of_a_window_is_used_up_again_and_again(server, database):
    chance = random.Random(7)
    database.creatures.insert_many([{"_id": n, "n": chance.randrange(3000)} for n in range(3000)])
    window = Query({"n": {"$gte": 0}}, {"n": 1}, limit=10)

    def in_order(limit: int) -> list[Any]:
        found = database.creatures.find(window.filter).sort([("n", 1), ("_id", 1)]).limit(limit)
        return [each["_id"] for each in found]

    async def scenario() -> None:
        async with (
            bounded(server, 60),
            someone_beside(server, database) as beside,
            following(server, window) as member,
        ):
            await beside.until(lambda: len(member.documents) == 10)
            for number in range(30):
                # More than the window and its spare documents.
                gone = await asyncio.to_thread(in_order, 60)
                await asyncio.to_thread(database.creatures.delete_many, {"_id": {"$in": gone}})
                if number % 5 == 0:
                    row = {"_id": f"new {number}", "n": chance.randrange(3000)}
                    await asyncio.to_thread(database.creatures.insert_one, row)
            first = await asyncio.to_thread(in_order, 10)
            await beside.until(lambda: list(member.documents) == first)
            await window.check(database, member)
            assert member.snapshots > 1

    asyncio.run(scenario())
