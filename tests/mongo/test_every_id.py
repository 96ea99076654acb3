"""A document may have any `_id`: reading the log goes on after each of them, and clients resume there."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from typing import Any

import bson
import pytest
from bson import Binary, Decimal128, Int64, ObjectId, Timestamp
from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import AsyncIOMotorClient

from brook.changes.change import Change
from brook.namespaces import Namespaces
from brook.settings import Settings
from sources.mongo import MongoSource
from sources.mongo.tail import Deployment, Tail
from tests.support.processes import ServerProcess
from tests.support.raw_client import RawClient

IDS = {
    "long": Int64(9007199254740993),
    "snowflake": Int64(1234567890123456789),
    "double": 1.5,
    "tenth": 0.1,
    "whole-double": 3.0,
    "nan": math.nan,
    "infinity": math.inf,
    "smallest": 5e-324,
    "decimal": Decimal128("19.99"),
    "decimal-zeros": Decimal128("1.10"),
    "decimal-nan": Decimal128("NaN"),
    "decimal-large": Decimal128("9.99E+6144"),
    "nested": {"x": 1.5, "y": {"z": Decimal128("0.1")}},
    "nested-array": {"x": [math.nan, Int64(2**53 + 1)]},
    "null": None,
    "empty": "",
    "text": "1",
    "long-text": "x" * 30_000,
    "large": "x" * 900_000,
    "bool": True,
    "binary": Binary(b"\x00\xff"),
    "object-id": ObjectId("5bfef740419aeed958bbfa1b"),
    "timestamp": Timestamp(1, 2),
    "int": 7,
}


@pytest.fixture(params=IDS)
def id(request) -> Any:
    return IDS[request.param]


async def ids_until(tail: Tail, last: Any) -> list[Any]:
    """Read until the document with this `_id` comes; the `_id` of each change, encoded."""
    found: list[bytes] = []
    async with asyncio.timeout(20):
        while encoded(last) not in found:
            found += [
                encoded(bson.decode(event.raw)["documentKey"]["_id"])
                for event in (await tail.read()).events
                if isinstance(event, Change)
            ]
    return found


def encoded(id: Any) -> bytes:
    """An `_id` as BSON: so NaN equals itself, and 1 differs from 1.0."""
    return bson.encode({"_id": id})


@pytest.mark.parametrize("lost", ["cursor", "place"])
def test_log_is_read_on_after_it(sandbox, database, id, lost):
    """A cursor is opened anew after an outage, and after an oversized change."""

    async def scenario() -> None:
        client: Any = AsyncIOMotorClient(sandbox.uri, document_class=RawBSONDocument)
        started = database.client.admin.command("ping")["operationTime"]
        with ThreadPoolExecutor(1) as executor:
            deployment = Deployment(
                client, executor, Namespaces(database.name, ["creatures"]), pre_images=True
            )
            tail = Tail(deployment, start=(started.time, started.inc))
            try:
                database.creatures.insert_one({"_id": id})
                assert await ids_until(tail, id) == [encoded(id)]
                await tail.close()
                if lost == "place":
                    tail.rewind()
                database.creatures.insert_one({"_id": "next"})
                database.creatures.insert_one({"_id": "last"})
                assert await ids_until(tail, "last") == [encoded("next"), encoded("last")]
            finally:
                await tail.close()
                client.close()

    asyncio.run(scenario())


@pytest.fixture(scope="module", params=["memory", "log"])
def server(request, sandbox) -> Iterator[ServerProcess]:
    options = ["--queue-max-bytes", "8000000"]
    if request.param == "log":
        options += ["--history-max-bytes", "0"]
    server = ServerProcess("--mongo", sandbox.uri, "--database", "every_id", *options)
    try:
        yield server.start()
    finally:
        server.kill()


def test_client_resumes_after_it(sandbox, server, id):
    async def scenario() -> None:
        with sandbox.nodes[0].client() as client:
            creatures = client.every_id.creatures
            with closing(await RawClient(server.port).connect()) as listening:
                await listening.opened()
                creatures.insert_one({"_id": id, "first": True})
                creatures.insert_one({"_id": "between"})
                creatures.delete_many({})
                first = await listening.next()
                heard = [(await listening.next()).id for _ in range(3)]
            with closing(await RawClient(server.port, last_id=first.id).connect()) as back:
                again = [await back.next() for _ in range(3)]
            assert [event.id for event in again] == heard
            assert [event.event for event in again] == ["message", "delete", "delete"]

    asyncio.run(scenario())


# MongoDB answers for the one with an error that seems to pass, and for the other with 280, which is final.
@pytest.mark.parametrize("id", ["double", "long"], indirect=True)
def test_place_that_always_fails_is_left_for_the_cluster_time_before(sandbox, database, caplog, id):
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        source = MongoSource(sandbox.uri, Settings(database=database.name, warm_up_seconds=0))
        await source.open()
        tail = source._live
        assert tail is not None
        heard: list[bytes] = []
        try:
            async with asyncio.timeout(60), aclosing(source.events()) as batches:
                database.creatures.insert_one({"_id": id})
                async for batch in batches:
                    assert all(isinstance(event, Change) for event in batch.events), "a client is reset"
                    ids = [encoded(bson.decode(event.raw)["documentKey"]["_id"]) for event in batch.events]
                    heard += ids
                    if encoded(id) in ids:
                        # A token without its type bits: a place that MongoDB does not find.
                        await tail.close()
                        token = bson.decode(batch.events[-1].raw)["_id"]["_data"]
                        tail._next = {"startAfter": {"_data": token}}
                        database.creatures.insert_many([{"_id": "next"}, {"_id": "last"}])
                    if encoded("last") in ids:
                        break
            assert heard == [encoded(id), encoded("next"), encoded("last")]
            assert source.interruption is None
        finally:
            await source.close()

    asyncio.run(scenario())
    said = [record.getMessage().partition(":")[0] for record in caplog.records]
    expected = [
        "the change stream is interrupted, trying again",
        "going back to the cluster time of the last change",
    ]
    assert [message for message in said if message in expected] == expected
    assert said[-1] == "the change stream goes on"
