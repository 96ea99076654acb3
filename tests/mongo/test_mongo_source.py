"""What MongoDB does besides changing documents, and what the source makes of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, aclosing, closing
from dataclasses import replace

import bson
import pymongo
import pytest
from pymongo import WriteConcern

from brook.changes import resume_token
from brook.changes.change import Change
from brook.errors import InvalidParameter
from brook.event import Batch, Event, Reset
from brook.settings import Settings
from brook.subscription import Subscription
from sources.mongo import MongoSource
from sources.mongo.tail import Tail
from sources.sandbox import Sandbox
from tests.support.processes import ServerProcess
from tests.support.raw_client import RawClient, Received

MEGABYTE = 2**20


@pytest.fixture(scope="module")
def waters(sandbox):
    """The database that this module's servers watch."""
    with pymongo.MongoClient(sandbox.uri) as client:
        yield client.get_database("source", write_concern=WriteConcern("majority"))
        client.drop_database("source")


def module_server(sandbox: Sandbox, *options: str) -> Iterator[ServerProcess]:
    server = ServerProcess(
        "--mongo", sandbox.uri, "--database", "source", "--collection", "creatures", "--collection", "moods",
        "--queue-max-bytes", str(64 * MEGABYTE), *options,
    )  # fmt: skip
    try:
        yield server.start()
    finally:
        server.kill()


@pytest.fixture(scope="module")
def from_memory(sandbox, waters):
    yield from module_server(sandbox)


@pytest.fixture(scope="module")
def from_log(sandbox, waters):
    """A server that remembers nothing, and has to replay the log."""
    yield from module_server(sandbox, "--history-max-bytes", "0", "--warm-up-seconds", "0")


@pytest.fixture(params=["from_memory", "from_log"])
def server(request) -> ServerProcess:
    """Each of the two."""
    return request.getfixturevalue(request.param)


async def opened(server: ServerProcess, last_id: str = "", path: str = "/stream") -> RawClient:
    return await (await RawClient(server.port, path, last_id=last_id).connect()).opened()


def words(event: Received) -> object:
    """An event in short: a document's `_id`, or a reset's data."""
    data = json.loads(event.data)
    return data if event.event == "reset" else data["_id"]


async def hear(client: RawClient, last: object) -> list[object]:
    """What a client receives, up to the document given."""
    heard: list[object] = []
    while not heard or heard[-1] != last:
        heard.append(words(await client.next()))
    return heard


async def present(servers: list[ServerProcess], waters, stack: ExitStack) -> list[RawClient]:
    """A client of each, that has just heard the newest document: all that was before is behind them."""
    clients = [stack.enter_context(closing(await opened(server))) for server in servers]
    mark = f"mark {time.monotonic_ns()}"
    waters.moods.insert_one({"_id": mark})
    for client in clients:
        await hear(client, mark)
    return clients


def reset(reason: str, ns: str) -> dict[str, str]:
    return {"reason": reason, "ns": ns}


async def check(servers: list[ServerProcess], waters, change, expected: list[object]) -> None:
    """Whoever listens while `change` happens hears `expected`, and so does whoever comes back to before
    it: from memory, and from the log.
    """
    with ExitStack() as stack:

        async def listen(server: ServerProcess, place: str) -> RawClient:
            return stack.enter_context(closing(await opened(server, place)))

        clients = await present(servers, waters, stack)
        places = [client.parser.last_id for client in clients]
        change()
        for client in clients:
            assert await hear(client, expected[-1]) == expected
        for server, place in zip(servers, places, strict=True):
            assert await hear(await listen(server, place), expected[-1]) == expected
        # And to the middle of it: the reset is followed by a place at once.
        for server, client in zip(servers, clients, strict=True):
            place = place_after_reset(client)
            heard = await hear(await listen(server, place), expected[-1])
            last = max(n for n, event in enumerate(expected) if isinstance(event, dict))
            rest = expected[last:]
            assert heard in (rest, rest[1:]), "told again perhaps, but nothing from before it"


def place_after_reset(client: RawClient) -> str:
    """The position that a client was given right after its last reset."""
    blocks = client.parser.blocks
    at = max(n for n, block in enumerate(blocks) if "event: reset" in block)
    (row,) = blocks[at + 1]
    return row.removeprefix("id: ")


def test_dropped_collection_is_a_reset_and_the_watch_goes_on(from_memory, from_log, waters):
    def change() -> None:
        waters.creatures.insert_one({"_id": 1})
        waters.creatures.drop()
        waters.creatures.insert_one({"_id": 2})

    expected = [1, reset("collection-dropped", "source.creatures"), 2]
    asyncio.run(check([from_memory, from_log], waters, change, expected))


def test_collection_that_is_renamed_away_is_a_reset_and_the_watch_goes_on(from_memory, from_log, waters):
    def change() -> None:
        waters.creatures.insert_one({"_id": "before"})
        waters.creatures.rename("elsewhere")
        waters.elsewhere.insert_one({"_id": "nobody hears this"})
        waters.creatures.insert_one({"_id": "after"})
        waters.elsewhere.drop()
        waters.creatures.insert_one({"_id": "last"})

    expected = ["before", reset("collection-renamed", "source.creatures"), "after", "last"]
    asyncio.run(check([from_memory, from_log], waters, change, expected))


@pytest.mark.parametrize("there", [False, True], ids=["free name", "in the place of another"])
def test_collection_that_is_renamed_to_a_watched_name_is_a_reset(from_memory, from_log, waters, there):
    """Told by the watched name: the other one is nobody's business."""
    waters.creatures.drop()

    def change() -> None:
        if there:
            waters.creatures.insert_one({"_id": "of the old one"})
        waters.secret.insert_one({"_id": "of the new one"})
        waters.secret.rename("creatures", dropTarget=there)
        waters.creatures.insert_one({"_id": "after"})

    expected = [reset("collection-renamed", "source.creatures"), "after"]
    if there:
        expected.insert(0, "of the old one")
    asyncio.run(check([from_memory, from_log], waters, change, expected))


def test_rename_is_told_to_those_who_listen_to_either_name(server, waters):
    waters.creatures.drop()
    waters.moods.drop()
    away, there = (reset("collection-renamed", f"source.{name}") for name in ("creatures", "moods"))
    expected = {
        "/stream": ["before", away, away, "last"],
        "/stream/creatures": ["before", away, away, "last"],
        "/stream/moods": [there, "last"],
    }

    async def scenario() -> None:
        with ExitStack() as stack:
            (listener,) = await present([server], waters, stack)
            place = listener.parser.last_id
            clients = [
                (path, stack.enter_context(closing(await opened(server, "", path)))) for path in expected
            ]
            waters.creatures.insert_one({"_id": "before"})
            waters.creatures.rename("moods", dropTarget=True)
            waters.unheard.insert_one({"_id": 1})
            waters.unheard.rename("creatures")
            waters.creatures.insert_one({"_id": "last"})
            waters.moods.insert_one({"_id": "last"})
            for path in expected:
                clients.append((path, stack.enter_context(closing(await opened(server, place, path)))))
            for path, client in clients:
                assert await hear(client, "last") == expected[path], path

    asyncio.run(scenario())


@pytest.mark.parametrize("collections", [("creatures",), ("*",)], ids=["named", "all"])
def test_dropped_database_is_a_reset_and_the_watch_goes_on(sandbox, database, start_server, collections):
    arguments = ["--mongo", sandbox.uri, "--database", database.name]
    arguments += [f"--collection={name}" for name in (*collections, "moods")]
    servers = [
        start_server(*arguments),
        start_server(*arguments, "--history-max-bytes", "0", "--warm-up-seconds", "0"),
    ]

    def change() -> None:
        database.moods.drop()
        database.creatures.insert_one({"_id": 1})
        database.client.drop_database(database.name)
        database.creatures.insert_one({"_id": 2})

    expected = [
        reset("collection-dropped", f"{database.name}.moods"),
        1,
        reset("collection-dropped", f"{database.name}.creatures"),
        reset("database-dropped", database.name),
        2,
    ]
    asyncio.run(check(servers, database, change, expected))
    # And once more: the stream has begun anew after its end.
    expected = expected[1:]
    asyncio.run(
        check(
            servers,
            database,
            lambda: again(database),
            [reset("collection-dropped", f"{database.name}.moods"), *expected],
        )
    )


def again(database) -> None:
    database.moods.drop()
    database.creatures.insert_one({"_id": 1})
    database.client.drop_database(database.name)
    database.creatures.insert_one({"_id": 2})


def keep_pre_images(database) -> None:
    """Only with them can a change have more than 16 MB: a document's, and an update's."""
    database.creatures.drop()
    database.create_collection("creatures", changeStreamPreAndPostImages={"enabled": True})


def test_change_that_is_too_large_is_skipped_with_a_reset_and_its_neighbours_arrive(
    from_memory, from_log, waters
):
    # 8 MB twice: in the document before, and again in what has changed. 16 MB is the most that mongod sends.
    keep_pre_images(waters)
    large = {"_id": "large", "filler": "x" * int(8.2 * MEGABYTE)}
    waters.creatures.insert_one(large)

    def change() -> None:
        for number in range(3):
            waters.creatures.insert_one({"_id": number})
        waters.creatures.update_one({"_id": "large"}, {"$set": {"filler": "y" * int(8.2 * MEGABYTE)}})
        waters.creatures.insert_one({"_id": 3})
        waters.creatures.update_one({"_id": "large"}, {"$set": {"filler": "z" * int(8.2 * MEGABYTE)}})
        waters.creatures.update_one({"_id": "large"}, {"$set": {"filler": "a" * int(8.2 * MEGABYTE)}})
        waters.creatures.insert_many([{"_id": number} for number in range(4, 40)])
        waters.creatures.insert_one({"_id": "last"})

    oversized = reset("oversized-event", "source.creatures")
    expected = [0, 1, 2, oversized, 3, oversized, oversized, *range(4, 40), "last"]
    asyncio.run(check([from_memory, from_log], waters, change, expected))
    for server in (from_memory, from_log):
        lines = [line for line in server.log if "16 MB" in line]
        assert len(lines) == 3, "one for each, and none for those who come back to it"


def test_change_that_is_too_large_in_the_middle_of_a_transaction_takes_nothing_down_with_it(
    from_memory, from_log, waters
):
    """The three changes have one cluster time."""
    keep_pre_images(waters)
    waters.creatures.insert_one({"_id": "large", "filler": "x" * int(8.2 * MEGABYTE)})

    async def scenario() -> None:
        with ExitStack() as stack:
            servers = [from_memory, from_log]
            clients = await present(servers, waters, stack)
            place = clients[0].parser.last_id
            with waters.client.start_session() as session, session.start_transaction():
                waters.creatures.insert_one({"_id": 1}, session=session)
                change = {"$set": {"filler": "y" * int(8.2 * MEGABYTE)}}
                waters.creatures.update_one({"_id": "large"}, change, session=session)
                waters.creatures.insert_one({"_id": 2}, session=session)
            expected = [1, reset("oversized-event", "source.creatures"), 2]
            for client in clients:
                assert await hear(client, 2) == expected
            for server in servers:
                with closing(await opened(server, place)) as client:
                    assert await hear(client, 2) == expected

    asyncio.run(scenario())
    waters.creatures.drop()


# -- the source alone, without a server around it --------------------------------------------------


def test_search_for_a_change_that_is_too_large_takes_few_cursors(sandbox, database, monkeypatch):
    """Thousands of changes before it and after it are in the same reply."""
    filler = "x" * int(8.2 * MEGABYTE)
    keep_pre_images(database)
    database.creatures.insert_one({"_id": "large", "filler": filler})
    before = database.client.admin.command("ping")["operationTime"]
    database.creatures.insert_many([{"_id": number} for number in range(3000)])
    database.creatures.update_one({"_id": "large"}, {"$set": {"filler": filler.upper()}})
    database.creatures.insert_many([{"_id": number} for number in range(3000, 6000)])
    cursors = 0
    open_tail = Tail.open

    async def count_and_open(tail: Tail) -> None:
        nonlocal cursors
        cursors += 1
        await open_tail(tail)

    monkeypatch.setattr(Tail, "open", count_and_open)

    async def scenario() -> list[Event]:
        source = MongoSource(sandbox.uri, Settings(database=database.name, warm_up_seconds=0))
        await source.open()
        events: list[Event] = []
        async with aclosing(source.replay(resume_token.checkpoint((before.time, before.inc)))) as log:
            async for batch in log:
                events += batch.events
                if len(events) >= 6001:
                    break
        await source.close()
        return events

    events = asyncio.run(scenario())
    assert [index for index, event in enumerate(events) if isinstance(event, Reset)] == [3000]
    assert len({event.key for event in events}) == len(events) == 6001
    assert 5 < cursors < 20


CHANGES = 50_000
SUBSCRIPTION = Subscription()


def test_backlog_is_drained_in_large_batches_once_and_in_order(sandbox, database, capsys):
    """All is written before the source is opened, so that it is reading that takes the time."""
    rows = [{"number": number, "type": "crawdad", "size": number % 40} for number in range(CHANGES)]
    database.create_collection("creatures")
    before = database.client.admin.command("ping")["operationTime"]
    for start in range(0, CHANGES, 10_000):
        database.creatures.insert_many(rows[start : start + 10_000], ordered=True)
    settings = Settings(database=database.name, warm_up_seconds=0)

    async def scenario() -> tuple[list[Batch], float]:
        source = MongoSource(sandbox.uri, settings)
        await source.open()
        try:
            after = resume_token.checkpoint((before.time, before.inc))
            batches: list[Batch] = []
            count = 0
            start = time.perf_counter()
            async with aclosing(source.replay(after)) as log:
                async for batch in log:
                    batches.append(batch)
                    count += len(batch.events)
                    if count >= CHANGES:
                        return batches, time.perf_counter() - start
        finally:
            await source.close()
        raise AssertionError("the log ended")

    batches, seconds = asyncio.run(scenario())
    events = [event for batch in batches for event in batch.events]
    numbers = [
        json.loads(event.decode().frame(SUBSCRIPTION).split(b"data: ")[1])["number"] for event in events
    ]
    assert numbers == list(range(CHANGES))
    keys = [event.key for event in events]
    assert keys == sorted(set(keys))
    full = [batch for batch in batches if batch.events]
    assert len(full) < CHANGES / 100
    # One that is published in one turn of the loop must not take long.
    assert max(len(batch.events) for batch in full) <= 1000
    with capsys.disabled():
        print(f"\nintake: {CHANGES / seconds:,.0f} changes/s in {len(full)} batches")


def test_live_query_of_a_mongodb_before_5_0_is_refused_at_once(sandbox, database):
    """It cannot read at a time: to try again would be of no use."""

    async def scenario() -> None:
        source = MongoSource(sandbox.uri, Settings(database=database.name))
        await source.open()
        source._deployment = replace(source._deployment, snapshots=False)
        try:
            reading = source.snapshot(f"{database.name}.creatures", bson.encode({}), await source.now())
            with pytest.raises(InvalidParameter, match=r"need MongoDB 5\.0"):
                await anext(reading)
        finally:
            await source.close()

    asyncio.run(scenario())


def transaction(database, count: int, pad: int) -> int:
    """Changes of one cluster time; how many."""
    with database.client.start_session() as session, session.start_transaction():
        for start in range(0, count, 1000):
            rows = [{"filler": "x" * pad} for _ in range(start, min(count, start + 1000))]
            database.creatures.insert_many(rows, session=session)
    return count


def test_batch_goes_on_to_the_end_of_a_transaction_as_far_as_it_came_in_one_reply(sandbox, database):
    """A reply of MongoDB has 16 MiB at most: that is the bound of a batch."""
    database.create_collection("creatures")
    before = database.client.admin.command("ping")["operationTime"]
    small, large = transaction(database, 3000, 10), transaction(database, 4600, 4000)

    async def scenario() -> list[list[Change]]:
        source = MongoSource(sandbox.uri, Settings(database=database.name, warm_up_seconds=0))
        await source.open()
        batches: list[list[Change]] = []
        try:
            after = resume_token.checkpoint((before.time, before.inc))
            async with aclosing(source.replay(after)) as log:
                async for batch in log:
                    batches.append([event for event in batch.events if isinstance(event, Change)])
                    if sum(map(len, batches)) >= small + large:
                        break
        finally:
            await source.close()
        return batches

    batches = asyncio.run(scenario())
    keys = [event.key for batch in batches for event in batch]
    assert keys == sorted(set(keys))
    first_small, first_large = keys[0], keys[small]
    parts = {
        first: [n for batch in batches if (n := sum(e.key[:16] == first[:16] for e in batch))]
        for first in (first_small, first_large)
    }
    assert parts[first_small] == [small]
    assert len(parts[first_large]) > 1
    assert max(parts[first_large]) > 1000
    assert max(sum(len(event.raw) for event in batch) for batch in batches) <= 16 * MEGABYTE
