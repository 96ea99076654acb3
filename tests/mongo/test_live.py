"""Live mode on a real MongoDB: what a client holds is what `find` shows."""

from __future__ import annotations

import asyncio
import datetime
import json
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any
from urllib.parse import quote

import pymongo
import pytest
from bson import Decimal128, Int64, Timestamp, json_util
from pymongo import WriteConcern

from brook.changes import resume_token
from sources.sandbox import Sandbox
from tests.support.copies import Copy
from tests.support.processes import ServerProcess
from tests.support.random_writes import Drops, writing
from tests.support.raw_client import RawClient, Received


@pytest.fixture(scope="module")
def server(sandbox) -> Iterator[ServerProcess]:
    options = ["--collection", "creatures", "--collection", "moods", "--live-linger-seconds", "1"]
    server = ServerProcess("--mongo", sandbox.uri, "--database", "live", "--heartbeat-seconds", "1", *options)
    try:
        yield server.start()
    finally:
        server.kill()


@pytest.fixture
def creatures(sandbox) -> Iterator[Any]:
    with pymongo.MongoClient[Any](sandbox.uri) as client:
        creatures = client.live.get_collection("creatures", write_concern=WriteConcern("majority"))
        creatures.delete_many({})
        yield creatures


class Follower(Copy):
    """A copy, and the connection that keeps it true."""

    def __init__(self, client: RawClient) -> None:
        super().__init__()
        self.client = client
        self.events: list[Received] = []
        self.last: dict[str, Any] = {}

    async def next(self) -> Received:
        """Apply the next event."""
        event = await self.client.next()
        self.events.append(event)
        self.last = json.loads(event.data)
        self.apply(event.event, self.last)
        return event

    async def until_live(self) -> dict[str, Any]:
        while (await self.next()).event != "live":
            pass
        return self.last

    @property
    def position(self) -> str:
        return self.client.parser.last_id

    def ids(self) -> list[Any]:
        return [document["_id"] for document in self.held.values()]


@asynccontextmanager
async def live(
    server: ServerProcess, query: dict[str, Any] | None = None, *, last_id: str = "", more: str = ""
) -> AsyncIterator[Follower]:
    path = "/stream/creatures?mode=live" + more
    if query is not None:
        path += "&filter=" + quote(json.dumps(query))
    with closing(await RawClient(server.port, path, last_id=last_id).connect()) as client:
        yield Follower(client)


async def caught_up(server: ServerProcess, creatures: Any) -> None:
    """Wait until the server has read everything that was written: a snapshot shows its own position."""
    time = creatures.database.client.admin.command("ping")["operationTime"]
    place = resume_token.checkpoint((time.time, time.inc))
    while True:
        with closing(await RawClient(server.port).connect()) as client:
            await client.opened()
            if resume_token.position(client.parser.last_id) >= place:
                return
        await asyncio.sleep(0.05)


def test_snapshot_then_every_change_that_concerns_the_query(server, creatures):
    creatures.insert_many([{"_id": 1, "n": 1}, {"_id": 2, "n": 2}, {"_id": "1", "n": 1}])

    async def scenario() -> None:
        await caught_up(server, creatures)
        async with live(server, {"n": {"$lt": 2}}) as copy:
            assert await copy.until_live() == {"count": 2}
            assert copy.ids() == [1, "1"]
            creatures.insert_one({"_id": 3, "n": 0})
            await copy.next()
            assert copy.last == {
                "changes": [{"op": "upsert", "why": "insert", "id": 3, "doc": {"_id": 3, "n": 0}}]
            }
            creatures.insert_one({"_id": 4, "n": 9})
            creatures.update_one({"_id": 2}, {"$set": {"n": -1}})
            await copy.next()
            assert [(one["why"], one["id"]) for one in copy.last["changes"]] == [("enter", 2)]
            creatures.update_one({"_id": 1}, {"$set": {"n": 5}})
            await copy.next()
            assert copy.last == {"changes": [{"op": "remove", "why": "leave", "id": 1}]}
            creatures.delete_one({"_id": 4})
            creatures.delete_one({"_id": 1})
            creatures.replace_one({"_id": 3}, {"n": 1, "new": True})
            await copy.next()
            assert [(one["why"], one["id"]) for one in copy.last["changes"]] == [("replace", 3)]
            creatures.delete_one({"_id": 3})
            await copy.next()
            assert copy.last == {"changes": [{"op": "remove", "why": "delete", "id": 3}]}
            assert copy.ids() == ["1", 2]

    asyncio.run(scenario())


def test_types_survive_as_extended_json(server, creatures):
    document = {
        "_id": Int64(2**60),
        "price": Decimal128("19.90"),
        "born": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    }

    def held(copy: Follower) -> list[Any]:
        options = json_util.JSONOptions(tz_aware=True)
        return [json_util.loads(json.dumps(one), json_options=options) for one in copy.held.values()]

    async def scenario() -> None:
        creatures.insert_one(document)
        await caught_up(server, creatures)
        async with live(server, more="&types=ejson") as copy:
            await copy.until_live()
            assert held(copy) == [document]
            creatures.update_one({"_id": document["_id"]}, {"$set": {"price": Decimal128("20.00")}})
            await copy.next()
            assert held(copy) == [{**document, "price": Decimal128("20.00")}]

    asyncio.run(scenario())


def test_transaction_is_one_event_and_a_document_is_in_it_once(server, creatures):
    creatures.insert_many([{"_id": n, "n": 0} for n in range(3)])

    async def scenario() -> None:
        await caught_up(server, creatures)
        async with live(server) as copy:
            await copy.until_live()
            with creatures.database.client.start_session() as session, session.start_transaction():
                creatures.update_one({"_id": 0}, {"$inc": {"n": 1}}, session=session)
                creatures.update_one({"_id": 1}, {"$inc": {"n": 1}}, session=session)
                creatures.update_one({"_id": 0}, {"$inc": {"n": 1}}, session=session)
                creatures.delete_one({"_id": 2}, session=session)
            await copy.next()
            assert sorted((one["op"], one["id"]) for one in copy.last["changes"]) == [
                ("remove", 2),
                ("upsert", 0),
                ("upsert", 1),
            ]
            assert copy.held["0"] == {"_id": 0, "n": 2}

    asyncio.run(scenario())


def test_change_in_no_shown_field_is_not_sent(server, creatures):
    creatures.insert_one({"_id": 1, "name": "newt", "secret": 1})

    async def scenario() -> None:
        await caught_up(server, creatures)
        async with live(server, more="&fields=name") as copy:
            await copy.until_live()
            assert copy.held == {"1": {"_id": 1, "name": "newt"}}
            creatures.update_one({"_id": 1}, {"$set": {"secret": 2}})
            creatures.update_one({"_id": 1}, {"$set": {"name": "crawdad"}})
            await copy.next()
            assert copy.last["changes"][0]["doc"] == {"_id": 1, "name": "crawdad"}

    asyncio.run(scenario())


@pytest.mark.parametrize("where", ["record", "log"])
def test_client_that_comes_back_gets_the_missed_changes(server, creatures, sandbox, start_server, where):
    """From the set's own record, or on another server from the log."""
    creatures.insert_many([{"_id": n, "n": n} for n in range(4)])
    other = server
    if where == "log":
        other = start_server("--mongo", sandbox.uri, "--database", "live")

    async def scenario() -> None:
        await caught_up(server, creatures)
        async with live(server, {"n": {"$gte": 1}}) as copy:
            await copy.until_live()
            creatures.insert_one({"_id": "mark", "n": 7})
            await copy.next()
            held = copy.held
            place = copy.position
        creatures.insert_one({"_id": 5, "n": 5})
        creatures.update_one({"_id": 1}, {"$set": {"n": 0}})
        creatures.update_one({"_id": 2}, {"$set": {"n": 20}})
        creatures.delete_one({"_id": 3})
        creatures.insert_one({"_id": 6, "n": 0})
        await caught_up(other, creatures)
        async with live(other, {"n": {"$gte": 1}}, last_id=place) as copy:
            copy.held = dict(held)
            said = await copy.until_live()
            assert said == {"count": 3, "resumed": True}
            assert not [event for event in copy.events if event.event == "snapshot"]
            assert sorted(map(str, copy.ids())) == ["2", "5", "mark"]
            creatures.update_one({"_id": 2}, {"$set": {"n": 21}})
            while copy.held["2"]["n"] != 21:
                await copy.next()

    asyncio.run(scenario())


def test_position_that_nobody_knows_gets_a_new_snapshot(server, creatures):
    creatures.insert_one({"_id": 1})

    async def scenario() -> None:
        await caught_up(server, creatures)
        for place, reason in (("t1000000000.1", {}), ("rubbish", {"reason": "invalid-id"})):
            async with live(server, last_id=place) as copy:
                assert await copy.until_live() == {"count": 1, **reason}
                assert copy.ids() == [1]

    asyncio.run(scenario())


def test_drop_brings_a_new_snapshot_with_the_reason_and_no_reset(server, creatures):
    creatures.insert_many([{"_id": 1}, {"_id": 2}])

    async def scenario() -> None:
        await caught_up(server, creatures)
        async with live(server) as copy:
            await copy.until_live()
            creatures.drop()
            said = await copy.until_live()
            assert said == {"count": 0, "reason": "collection-dropped"}
            creatures.insert_one({"_id": 3})
            await copy.next()
            assert copy.ids() == [3]

    asyncio.run(scenario())


def test_collection_that_was_made_just_now_is_read_before_anything_else_is_written(start_server):
    """MongoDB refuses to read it at an earlier time; into a quiet log it writes after ten seconds only."""

    def last_write() -> Timestamp:
        return client.admin.command("ping")["operationTime"]

    async def scenario(name: str) -> bool:
        client.new.create_collection(name)
        made = last_write()
        with closing(await RawClient(server.port, f"/stream/{name}?mode=live").connect()) as stream:
            event = await stream.next(seconds=40)
        assert (event.event, json.loads(event.data)) == ("live", {"count": 0})
        return last_write() == made

    with Sandbox() as sandbox, pymongo.MongoClient[Any](sandbox.uri) as client:
        server = start_server("--mongo", sandbox.uri, "--database", "new", "--collection", "*")
        # The note may come just then, though hardly three times.
        assert any(asyncio.run(scenario(f"creatures{number}")) for number in range(3))
        server.kill()
    assert any("is read again" in line for line in server.log)


def test_equal_queries_that_come_together_are_read_once(server, creatures):
    creatures.insert_many([{"_id": n, "of": "herd"} for n in range(500)])

    def finds() -> int:
        status = creatures.database.client.admin.command("serverStatus")
        return status["metrics"]["commands"]["find"]["total"]

    async def scenario() -> None:
        await caught_up(server, creatures)
        before = finds()

        async def one(number: int) -> None:
            async with live(server, {"of": "herd"}) as copy:
                await copy.until_live()
                assert len(copy.held) == 500
                parts = [event for event in copy.events if event.event == "snapshot"]
                assert len(parts) == 5

        await asyncio.gather(*map(one, range(40)))
        assert finds() - before <= 3

    asyncio.run(scenario())


def test_count_tells_only_the_number(server, creatures):
    creatures.insert_many([{"_id": n, "n": n} for n in range(3)])

    async def scenario() -> None:
        await caught_up(server, creatures)
        path = "/stream/creatures?mode=count&filter=" + quote('{"n":{"$gt":0}}')
        with closing(await RawClient(server.port, path).connect()) as client:
            assert (await client.next()).data == '{"count":2}'
            creatures.update_one({"_id": 1}, {"$set": {"n": 7}})
            creatures.delete_one({"_id": 2})
            event = await client.next()
            assert (event.event, event.data) == ("count", '{"count":1}')

    asyncio.run(scenario())


def test_set_that_is_too_large_is_refused(sandbox, creatures, start_server):
    # Before the server starts: a snapshot is as old as the log that the server has read.
    creatures.insert_many([{"_id": n} for n in range(3)])
    server = start_server("--mongo", sandbox.uri, "--database", "live", "--snapshot-max-documents", "2")

    async def scenario() -> None:
        with closing(await RawClient(server.port, "/stream/creatures?mode=live").connect()) as client:
            event = await client.next()
            problem = json.loads(event.data)
            assert (event.event, problem["code"]) == ("problem", "snapshot-too-large")
            # The body of an error, although the status of the answer is 200.
            assert (client.status, problem["status"], problem["type"]) == (200, 413, "about:blank")
            assert client.parser.retry == 60_000
            assert "--snapshot-max-documents" in problem["detail"]
        # In a bundle, it names the one: the client can come back with the others.
        parts = {"all": {"mode": "live"}, "one": {"mode": "live", "filter": {"_id": 1}}}
        for part in parts.values():
            part["stream"] = "creatures"
        body = json.dumps({"subscriptions": parts}).encode()
        with closing(await RawClient(server.port, body=body).connect()) as client:
            tags = json.loads((await client.next()).data)
            while (event := await client.next()).event != "problem":
                pass
            assert json.loads(event.data)["of"] == tags["all"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "asked",
    [{"filter": {"n": {"$gte": 2}}}, {"filter": {}, "sort": {"n": -1, "by": 1, "_id": 1}, "limit": 4}],
    ids=["filter", "window"],
)
def test_copy_equals_find_at_the_time_of_every_event_under_writers_and_cuts(server, creatures, asked):
    more = "".join(f"&{name}={quote(json.dumps(value))}" for name, value in asked.items())
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    compared = 0

    async def scenario() -> None:
        nonlocal compared
        chance = random.Random(seed)
        documents: dict[str, Any] = {}
        place = ""
        async with asyncio.timeout(120):
            while compared < 300:
                is_true = False
                async with live(server, more=more, last_id=place) as copy:
                    copy.held = documents
                    for _ in range(chance.randrange(5, 60)):
                        event = await copy.next()
                        if event.event not in ("live", "changes") or (
                            event.event == "changes" and not is_true
                        ):
                            continue
                        is_true = True
                        found = await asyncio.to_thread(drops.find, creatures, event.id, [asked])
                        if found is not None:
                            (expected,) = found
                            assert copy.held == expected, event
                            if "sort" in asked:
                                assert list(copy.held) == list(expected), event
                            compared += 1
                        documents, place = copy.held, event.id

    drops = Drops()
    with writing(creatures, seed, drops):
        asyncio.run(scenario())
    assert compared >= 300
