"""The stream on a real replica set."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import ExitStack, closing

import pymongo
import pytest
from bson import ObjectId
from pymongo import WriteConcern

from brook.changes.resume_token import event_id, position
from brook.event import Position
from tests.support.processes import ServerProcess
from tests.support.raw_client import RawClient, Received


@pytest.fixture(scope="module")
def rivers(sandbox):
    """A database that two servers of this module watch; each test uses collections of its own."""
    with pymongo.MongoClient(sandbox.uri) as client:
        yield client.get_database("stream", write_concern=WriteConcern("majority"))
        client.drop_database("stream")


def module_server(sandbox, *collections: str):
    arguments = [f"--collection={name}" for name in collections]
    server = ServerProcess(
        "--mongo", sandbox.uri, "--database", "stream", "--heartbeat-seconds", "0.3", *arguments
    )
    try:
        yield server.start()
    finally:
        server.kill()


@pytest.fixture(scope="module")
def of_all(sandbox, rivers):
    """A server that watches whatever is in the database."""
    yield from module_server(sandbox, "*")


@pytest.fixture(scope="module")
def of_two(sandbox, rivers):
    """A server that watches two collections."""
    yield from module_server(sandbox, "newts", "otters")


async def opened(server: ServerProcess, **options: str) -> RawClient:
    return await (await RawClient(server.port, **options).connect()).opened()


async def present(server: ServerProcess, rivers) -> RawClient:
    """A client that has just heard the newest document: what other tests wrote is behind the server."""
    client = await opened(server)
    mark = f"mark {time.monotonic_ns()}"
    rivers.newts.insert_one({"_id": mark})
    while json.loads((await client.next()).data)["_id"] != mark:
        pass
    client.events.clear()
    return client


def positions(client: RawClient) -> list[Position]:
    """Every id that the client was sent, in order of arrival, as a place in the log."""
    return [
        position(row.removeprefix("id: "))
        for block in client.parser.blocks
        for row in block
        if row.startswith("id: ")
    ]


async def until_checkpoint(client: RawClient, after: Position) -> Position:
    """Read on until a block without data moves the client's position past `after`."""
    async with asyncio.timeout(20):
        while True:
            for block in client.parser.blocks:
                if len(block) == 1 and block[0].startswith("id: "):
                    place = position(block[0].removeprefix("id: "))
                    if place > after:
                        return place
            assert await client.read()


def test_article_document_yields_exactly_these_bytes(sandbox, database, start_server):
    server = start_server("--mongo", sandbox.uri, "--database", database.name)

    async def scenario() -> None:
        with closing(await opened(server)) as client:
            database.creatures.insert_one({"_id": ObjectId("5bfef740419aeed958bbfa1b"), "type": "crawdad"})
            event = await client.next()
            assert f"data: {event.data}\n\n".encode() in client.raw
            assert event.data == '{"_id":"5bfef740419aeed958bbfa1b","type":"crawdad"}'
            assert event.event == "message"

    asyncio.run(scenario())


def test_insert_update_and_replace_are_whole_documents_in_the_default_event(of_all, rivers):
    async def scenario() -> None:
        with closing(await present(of_all, rivers)) as client:
            rivers.minnows.insert_one({"_id": 1, "type": "minnow", "size": 2})
            assert await client.next() == Received(
                "message", '{"_id":1,"type":"minnow","size":2}', client.parser.last_id
            )
            rivers.minnows.update_one({"_id": 1}, {"$set": {"size": 3, "mood": "calm"}})
            event = await client.next()
            assert (event.event, event.data) == (
                "message",
                '{"_id":1,"type":"minnow","size":3,"mood":"calm"}',
            )
            rivers.minnows.replace_one({"_id": 1}, {"type": "pike"})
            event = await client.next()
            assert (event.event, event.data) == ("message", '{"_id":1,"type":"pike"}')
            rivers.minnows.delete_one({"_id": 1})
            event = await client.next()
            assert (event.event, event.data) == ("delete", '{"_id":1}')

    asyncio.run(scenario())


def test_update_whose_document_is_gone_sends_nothing_and_its_delete_follows(of_all, rivers):
    async def scenario() -> None:
        with closing(await present(of_all, rivers)) as client:
            rivers.mayflies.insert_one({"_id": "ephemera"})
            await client.next()
            # One transaction, so that whenever the document is looked up for the update, it is gone.
            with rivers.client.start_session() as session, session.start_transaction():
                rivers.mayflies.update_one({"_id": "ephemera"}, {"$set": {"old": True}}, session=session)
                rivers.mayflies.delete_one({"_id": "ephemera"}, session=session)
            event = await client.next()
            assert (event.event, event.data) == ("delete", '{"_id":"ephemera"}')

    asyncio.run(scenario())


def test_ids_are_made_of_the_resume_tokens_of_mongodb(of_all, rivers):
    async def scenario() -> None:
        with closing(await present(of_all, rivers)) as client, rivers.watch() as stream:
            for change in (
                lambda: rivers.herons.insert_one({"_id": 1}),
                lambda: rivers.herons.update_one({"_id": 1}, {"$set": {"size": 90}}),
                lambda: rivers.herons.delete_one({"_id": 1}),
            ):
                change()
                assert (await client.next()).id == event_id(stream.next()["_id"]["_data"])

    asyncio.run(scenario())


def test_checkpoints_move_on_while_only_other_collections_are_written_to(of_two, rivers):
    async def scenario() -> None:
        with closing(await present(of_two, rivers)) as client:
            rivers.newts.insert_one({"_id": "checkpoint"})
            event = await client.next()
            places = [position(event.id)]
            for number in range(3):
                rivers.silent.insert_one({"number": number})
                places.append(await until_checkpoint(client, places[-1]))
            assert [event.data for event in client.events] == ['{"_id":"checkpoint"}']
            sent = positions(client)
            assert sent == sorted(sent), "a position went backwards"

        # What the last checkpoint promises, and no more: the event is before it, the next after it.
        with closing(await opened(of_two, last_id=client.parser.last_id)) as later:
            rivers.newts.insert_one({"_id": "after the checkpoint"})
            assert (await later.next()).data == '{"_id":"after the checkpoint"}'

    asyncio.run(scenario())


def test_positions_never_go_backwards_while_events_and_keep_alives_mix(of_two, rivers):
    async def scenario() -> None:
        with closing(await present(of_two, rivers)) as client:
            for number in range(8):
                with rivers.client.start_session() as session, session.start_transaction():
                    # Changes of one cluster time: a checkpoint of that time may only follow the last.
                    rivers.otters.insert_many([{"_id": f"{number}-{n}"} for n in range(50)], session=session)
                for _ in range(50):
                    await client.next()
                rivers.silent.insert_one({"number": number})
                if number % 4 == 3:
                    await until_checkpoint(client, position(client.events[-1].id))
            sent = positions(client)
            assert sent == sorted(sent)
            assert len(client.events) == 400

    asyncio.run(scenario())


def test_opening_has_the_position_from_which_the_stream_goes_on(of_two, rivers):
    async def scenario() -> None:
        with closing(await present(of_two, rivers)) as client:
            rivers.newts.insert_one({"_id": "before the opening"})
            await client.next()
        with closing(await opened(of_two)) as client:
            while not client.parser.last_id:
                assert await client.read()
            place = client.parser.last_id
            assert place.startswith("t")

        rivers.newts.insert_one({"_id": "while away"})
        with closing(await opened(of_two, last_id=place)) as again:
            # A checkpoint is cautious: it may lie before what was just written.
            heard = [json.loads((await again.next()).data)["_id"]]
            while heard[-1] != "while away":
                heard.append(json.loads((await again.next()).data)["_id"])
            assert len(heard) <= 3
            assert heard[-2:] in (["before the opening", "while away"], ["while away"])

    asyncio.run(scenario())


def test_only_the_named_collections_are_heard(of_two, rivers):
    async def scenario() -> None:
        with closing(await present(of_two, rivers)) as client:
            for name in ("silent", "newt", "newts2", "otters", "silent", "newts"):
                rivers[name].insert_one({"where": name})
            # The same names in a database that nobody named.
            rivers.client.elsewhere.newts.insert_one({"where": "elsewhere"})
            rivers.client.drop_database("elsewhere")
            rivers.otters.insert_one({"where": "the end"})
            heard = []
            while not heard or heard[-1] != "the end":
                heard.append(json.loads((await client.next()).data)["where"])
            assert heard == ["otters", "newts", "the end"]

    asyncio.run(scenario())


def test_star_hears_collections_that_are_created_later(of_all, rivers):
    async def scenario() -> None:
        with closing(await present(of_all, rivers)) as client:
            for name in ("created_later", "created-even.later"):
                rivers.create_collection(name)
                rivers[name].insert_one({"_id": name})
                assert (await client.next()).data == f'{{"_id":"{name}"}}'

    asyncio.run(scenario())


def test_database_of_the_uri_is_the_default_one(sandbox, database, start_server):
    uri = sandbox.uri.replace("/?", f"/{database.name}?")
    assert uri != sandbox.uri
    server = start_server("--mongo", uri, "--collection", "creatures")
    assert any(line.endswith(f"started on {database.name}.creatures") for line in server.log)
    server = start_server("--mongo", uri, "--database", "another", "--collection", "creatures")
    assert any(line.endswith("started on another.creatures") for line in server.log)


def test_named_collection_may_be_created_later(sandbox, database, start_server):
    server = start_server("--mongo", sandbox.uri, "--database", database.name, "--collection", "later")

    async def scenario() -> None:
        with closing(await opened(server)) as client:
            database.later.insert_one({"_id": 1})
            assert (await client.next()).data == '{"_id":1}'

    asyncio.run(scenario())


def test_one_cursor_serves_however_many_clients(of_all, of_two, rivers):
    async def scenario() -> None:
        with ExitStack() as stack:
            stack.enter_context(closing(await present(of_all, rivers)))
            clients = [stack.enter_context(closing(await opened(of_all))) for _ in range(50)]
            rivers.minnows.insert_one({"_id": "for all"})
            assert {(await client.next()).data for client in clients} == {'{"_id":"for all"}'}
            assert len({client.events[0].id for client in clients}) == 1
            operations = rivers.client.admin.aggregate([{"$currentOp": {"idleCursors": True}}])
            cursors = {
                operation["cursor"]["cursorId"]
                for operation in operations
                if operation.get("cursor", {}).get("originatingCommand", {}).get("$db") == "stream"
            }
            assert len(cursors) == 2, "one for each of this module's servers"

    asyncio.run(scenario())
