"""Updated documents are looked up once a batch, as they were at the batch's last cluster time."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any

import bson
import pymongo
import pytest
from bson import Int64, Timestamp
from pymongo.errors import AutoReconnect, OperationFailure

from brook.changes import resume_token
from brook.changes.change import Change
from brook.event import Batch, ResetReason
from brook.settings import Settings
from sources.mongo import MongoSource, errors
from sources.mongo.cursor import Cursor
from sources.mongo.lookup import Lookup
from sources.sandbox import Sandbox
from tests.support.random_writes import threads
from tests.support.raw_client import RawClient


def now(database) -> resume_token.ClusterTime:
    time = database.client.admin.command("ping")["operationTime"]
    return time.time, time.inc


@asynccontextmanager
async def opened(sandbox: Sandbox, database, **settings: Any) -> AsyncIterator[MongoSource]:
    source = MongoSource(sandbox.uri, Settings(database=database.name, warm_up_seconds=0, **settings))
    await source.open()
    try:
        yield source
    finally:
        await source.close()


async def replayed(source: MongoSource, after: resume_token.ClusterTime, count: int) -> list[Batch]:
    """The batches after a time, up to so many changes."""
    batches: list[Batch] = []
    async with asyncio.timeout(60), aclosing(source.replay(resume_token.checkpoint(after))) as log:
        async for batch in log:
            batches.append(batch)
            if sum(len(batch.events) for batch in batches) >= count:
                return batches
    raise AssertionError("the log ended")


def updates(batch: Batch) -> dict[tuple[str, Any], Any]:
    """The documents of a batch's updates, by collection and `_id`."""
    found = {}
    for event in batch.events:
        assert isinstance(event, Change)
        if event.operation == "update":
            change = bson.decode(event.raw)
            place = f"{change['ns']['db']}.{change['ns']['coll']}", change["documentKey"]["_id"]
            found[place] = change["fullDocument"]
    return found


def find_at(database, name: str, time: resume_token.ClusterTime, ids: list[Any]) -> dict[Any, Any]:
    """The answer of `find` at a cluster time."""
    db, _, collection = name.partition(".")
    reply = database.client[db].command(
        {
            "find": collection,
            "filter": {"_id": {"$in": ids}},
            "batchSize": 10_000,
            "readConcern": {"level": "snapshot", "atClusterTime": Timestamp(*time)},
        }
    )
    return {document["_id"]: document for document in reply["cursor"]["firstBatch"]}


def check(database, batch: Batch) -> int:
    """Compare a batch's updates with `find` at its time. Returns their number."""
    if not batch.events:
        return 0
    time = resume_token.cluster_time(batch.events[-1].key)
    shown = updates(batch)
    for (name, id), document in shown.items():
        assert find_at(database, name, time, [id]).get(id) == document, (name, id, time)
    return len(shown)


@contextmanager
def writing(database, seed: int) -> Iterator[None]:
    """Threads that write to the same few documents, also in transactions, also delete them."""
    stopped = threading.Event()

    def write(number: int) -> None:
        chance = random.Random(seed + number)
        with database.client.start_session() as session:
            while not stopped.is_set():
                id, field = chance.randrange(20), chance.choice("abc")
                change = {"$inc": {field: 1}, "$set": {"by": number}}
                try:
                    if chance.random() < 0.1:
                        database.creatures.delete_one({"_id": id})
                    elif chance.random() < 0.2:
                        with session.start_transaction():
                            for each in chance.sample(range(20), 3):
                                database.creatures.update_one({"_id": each}, change, session=session)
                    else:
                        database.creatures.update_one({"_id": id}, change, upsert=True)
                except pymongo.errors.OperationFailure:
                    pass  # a write conflict, or an upsert that came second

    with threads(write, 4, stopped):
        yield


def test_documents_of_a_batch_equal_a_find_at_its_time_under_writers(sandbox, database):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    database.create_collection("creatures")

    async def scenario() -> tuple[int, int]:
        before = now(database)
        live = 0
        async with opened(sandbox, database) as source:
            with writing(database, seed):
                async with asyncio.timeout(60), aclosing(source.events()) as batches:
                    async for batch in batches:
                        async for part in source.complete(batch):
                            live += await asyncio.to_thread(check, database, part)
                        if live >= 500:
                            break
            # In the log, the same changes come in larger batches.
            log = sum([check(database, batch) for batch in await replayed(source, before, 500)])
        return live, log

    live, log = asyncio.run(scenario())
    assert live >= 500
    assert log > 0


def test_thousands_of_updates_in_one_transaction_are_looked_up(sandbox, database):
    ids: list[Any] = [*range(2000), *("x" * 100 + str(number) for number in range(1000))]
    database.creatures.insert_many([{"_id": id, "n": 0} for id in ids])
    before = now(database)
    with database.client.start_session() as session, session.start_transaction():
        database.creatures.update_many({}, {"$inc": {"n": 1}}, session=session)
    database.creatures.update_many({}, {"$inc": {"n": 1}})

    async def scenario() -> list[Batch]:
        async with opened(sandbox, database) as source:
            return await replayed(source, before, 2 * len(ids))

    first, *later = asyncio.run(scenario())
    assert {document["n"] for document in updates(first).values()} == {1}, "not the later state"
    assert len(updates(first)) == len(ids)
    assert sum(check(database, batch) for batch in [first, *later]) == 2 * len(ids)


def test_large_documents_are_looked_up_in_parts(sandbox, database):
    """300 updates of 1 MB, of which MongoDB's log has some bytes each, and of small ones behind them."""
    large = [{"_id": number, "pad": "x" * 1_000_000, "n": 0} for number in range(20)]
    small = [{"_id": number, "n": 0} for number in range(100, 400)]
    database.creatures.insert_many(large + small)
    before = now(database)
    for n in range(1, 16):
        database.creatures.update_many({"_id": {"$lt": 100}}, {"$set": {"n": n}})
    database.creatures.update_many({"_id": {"$gte": 100}}, {"$set": {"n": 1}})

    async def scenario() -> list[Batch]:
        async with opened(sandbox, database) as source:
            return await replayed(source, before, 600)

    batches = asyncio.run(scenario())
    assert sum(len(batch.events) for batch in batches) == 600
    assert all(check(database, batch) for batch in batches if batch.events)
    sizes = [sum(event.size for event in batch.events) for batch in batches]
    assert max(sizes) < 17 * 2**20
    # About 8 MB each, but the first: nothing is known of the documents then. The small ones come in few.
    assert len(batches) < 50
    assert not batches[0].checkpoint, "more of what was read follows"
    assert [event.key for batch in batches for event in batch.events] == sorted(
        event.key for batch in batches for event in batch.events
    )


def test_insert_before_a_large_transaction_is_a_part_of_its_own(sandbox, database):
    """It has no update, and so nothing to look up."""
    database.creatures.insert_many([{"_id": number, "pad": "x" * 1_000_000} for number in range(20)])
    before = now(database)
    database.creatures.update_many({}, {"$set": {"n": 1}})  # says how large the documents are
    database.creatures.insert_one({"_id": "large", "text": "x" * 2**20})  # ends a batch
    database.creatures.insert_one({"_id": "small"})
    with database.client.start_session() as session, session.start_transaction():
        database.creatures.update_many({"pad": {"$exists": True}}, {"$set": {"n": 2}}, session=session)

    async def scenario() -> list[Batch]:
        async with opened(sandbox, database) as source:
            return await replayed(source, before, 42)

    batches = [batch for batch in asyncio.run(scenario()) if batch.events]
    assert [check(database, batch) for batch in batches][-2:] == [0, 20]
    assert [event.operation for event in batches[-2].events] == ["insert"]


@pytest.mark.parametrize(("first", "second"), [(1, Int64(1)), (1, 1.0), (Int64(7), 7)])
def test_document_with_an_equal_id_of_another_type_is_another_document(sandbox, database, first, second):
    """MongoDB finds both by either, but holds only one at a time."""
    database.creatures.insert_one({"_id": first, "n": 0})
    before = now(database)
    with database.client.start_session() as session, session.start_transaction():
        database.creatures.update_one({"_id": first}, {"$set": {"n": 1}}, session=session)
        database.creatures.delete_one({"_id": first}, session=session)
        database.creatures.insert_one({"_id": second, "n": 2}, session=session)

    async def scenario() -> list[Batch]:
        async with opened(sandbox, database) as source:
            return await replayed(source, before, 3)

    events = [event for batch in asyncio.run(scenario()) for event in batch.events]
    assert [bson.decode(event.raw).get("fullDocument") for event in events] == [
        None,
        None,
        {"_id": second, "n": 2},
    ]


def test_transaction_with_large_documents_stays_whole(sandbox, database):
    database.creatures.insert_many([{"_id": number, "pad": "x" * 1_000_000} for number in range(40)])
    before = now(database)
    with database.client.start_session() as session:
        for n in range(2):
            with session.start_transaction():
                database.creatures.update_many({}, {"$set": {"n": n}}, session=session)

    async def scenario() -> list[Batch]:
        async with opened(sandbox, database) as source:
            return await replayed(source, before, 80)

    batches = [batch for batch in asyncio.run(scenario()) if batch.events]
    assert [check(database, batch) for batch in batches] == [40, 40]


def test_updates_of_several_databases_are_looked_up_in_each(sandbox, database):
    other = database.client[f"{database.name}_2"]
    try:
        for creatures in (database.creatures, other.creatures):
            creatures.insert_one({"_id": 1, "of": creatures.full_name, "n": 0})
        before = now(database)
        for creatures in (database.creatures, other.creatures, database.creatures):
            creatures.update_one({"_id": 1}, {"$inc": {"n": 1}})

        async def scenario() -> list[Batch]:
            async with opened(sandbox, database, namespace=(other.creatures.full_name,)) as source:
                return await replayed(source, before, 3)

        shown = {}
        for batch in asyncio.run(scenario()):
            check(database, batch)
            shown |= updates(batch)
        assert {name: (document["of"], document["n"]) for (name, _), document in shown.items()} == {
            database.creatures.full_name: (database.creatures.full_name, 2),
            other.creatures.full_name: (other.creatures.full_name, 1),
        }
    finally:
        database.client.drop_database(other)


def test_document_that_is_gone_at_the_end_of_the_batch_is_null(sandbox, database):
    database.creatures.insert_one({"_id": 1})
    before = now(database)
    with database.client.start_session() as session, session.start_transaction():
        database.creatures.update_one({"_id": 1}, {"$set": {"n": 1}}, session=session)
        database.creatures.delete_one({"_id": 1}, session=session)

    async def scenario() -> list[Batch]:
        async with opened(sandbox, database) as source:
            return await replayed(source, before, 2)

    assert [document for batch in asyncio.run(scenario()) for document in updates(batch).values()] == [None]


def test_log_that_is_lost_during_a_lookup_is_told_by_a_reset(sandbox, database, monkeypatch):
    """The connection breaks, and MongoDB's log no longer holds the place where it was."""
    database.creatures.insert_one({"_id": 1})
    lost = OperationFailure("resume of change stream was not possible", errors.CHANGE_STREAM_HISTORY_LOST)
    failures: dict[Any, list[Exception]] = {}

    def fail(place: Any, name: str, *raised: Exception) -> None:
        """Fail at first, then go on as ever."""
        failures[name] = list(raised)
        call = getattr(place, name)

        async def first(*args: Any, **options: Any) -> Any:
            if failures[name]:
                raise failures[name].pop(0)
            return await call(*args, **options)

        monkeypatch.setattr(place, name, first)

    async def scenario() -> list[Any]:
        async with opened(sandbox, database) as source, aclosing(source.events()) as batches:
            database.creatures.update_one({"_id": 1}, {"$set": {"n": 1}})
            async with asyncio.timeout(60):
                arrived = [batch async for batch in source.past()]
                while not (arrived and arrived[-1].incomplete):
                    arrived.append(await anext(batches))
                fail(Lookup, "complete", AutoReconnect("broken"))
                fail(Cursor, "open", lost)
                assert [part async for part in source.complete(arrived[-1])] == []
                return list((await anext(batches)).events)

    (reset,) = asyncio.run(scenario())
    assert reset.reason is ResetReason.HISTORY_LOST
    assert failures == {"complete": [], "open": []}


def test_time_out_of_the_window_shows_the_document_as_it_is_now():
    """MongoDB keeps 300 s by default, and here nothing."""
    options = ["--setParameter", "minSnapshotHistoryWindowInSeconds=0"]
    with Sandbox(options=options) as sandbox, pymongo.MongoClient[Any](sandbox.uri) as client:
        database = client.window
        database.creatures.insert_one({"_id": 1, "n": 0})
        before = now(database)
        database.creatures.update_one({"_id": 1}, {"$inc": {"n": 1}})
        time = now(database)
        until_too_old(database, time)
        database.creatures.update_one({"_id": 1}, {"$inc": {"n": 1}})

        async def scenario() -> list[Batch]:
            async with opened(sandbox, database) as source:
                return await replayed(source, before, 2)

        shown = [document for batch in asyncio.run(scenario()) for document in updates(batch).values()]
        assert shown[-1] == {"_id": 1, "n": 2}


def until_too_old(database, time: resume_token.ClusterTime) -> None:
    """Write elsewhere until MongoDB no longer reads at a time."""
    for _ in range(10_000):
        database.elsewhere.insert_one({})
        try:
            find_at(database, "window.creatures", time, [1])
        except pymongo.errors.OperationFailure:
            return
    raise AssertionError("MongoDB keeps its past")


def test_nothing_is_looked_up_while_nobody_listens(sandbox, database, start_server):
    """Then the log has what a later client has missed."""
    server = start_server("--mongo", sandbox.uri, "--database", database.name, "--history-seconds", "0.1")

    def finds() -> int:
        return database.client.admin.command("serverStatus")["metrics"]["commands"]["find"]["total"]

    async def scenario() -> None:
        client = await (await RawClient(server.port).connect()).opened()
        database.creatures.insert_one({"_id": 1})
        first = await client.next()
        database.creatures.update_one({"_id": 1}, {"$set": {"n": 1}})
        await client.next()
        client.close()
        await asyncio.sleep(0.5)
        before = finds()
        for number in range(20):
            database.creatures.update_one({"_id": 1}, {"$set": {"n": number}})
        place = await until_read(server, now(database))
        assert finds() == before
        back = await RawClient(server.port, last_id=first.id).connect()
        heard = [await back.next() for _ in range(21)]
        assert '"n":19' in heard[-1].data
        assert finds() > before
        back.close()
        # And nothing is missing after a place that was given while nothing was looked up.
        database.creatures.update_one({"_id": 1}, {"$set": {"n": 100}})
        late = await RawClient(server.port, last_id=place).connect()
        assert '"n":100' in (await late.next()).data
        late.close()

    asyncio.run(scenario())


async def until_read(server, time: resume_token.ClusterTime) -> str:
    """The place that a new client is given, once it is not before a time."""
    while True:
        client = await (await RawClient(server.port).connect()).opened()
        place = client.parser.last_id
        client.close()
        if resume_token.position(place) >= resume_token.checkpoint(time):
            return place
        await asyncio.sleep(0.1)
