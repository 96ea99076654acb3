"""A document may have any `_id`: reading the log goes on after each of them, and clients resume there."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from bson import Binary, Decimal128, Int64, ObjectId, Timestamp
from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import AsyncIOMotorClient

from brook.namespaces import Namespaces
from sources.mongo.tail import Tail
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


async def count(tail: Tail, wanted: int) -> int:
    """Read until so many events have come."""
    found = 0
    async with asyncio.timeout(20):
        while found < wanted:
            found += len((await tail.read()).events)
    return found


@pytest.mark.parametrize("lost", ["cursor", "place"])
def test_log_is_read_on_after_it(sandbox, database, id, lost):
    """A cursor is opened anew after an outage, and after an oversized change."""

    async def scenario() -> None:
        client: Any = AsyncIOMotorClient(sandbox.uri, document_class=RawBSONDocument)
        started = database.client.admin.command("ping")["operationTime"]
        with ThreadPoolExecutor(1) as executor:
            tail = Tail(
                client[database.name],
                Namespaces(database.name, ["creatures"]),
                executor,
                start=(started.time, started.inc),
                sharded=False,
                before=True,
            )
            database.creatures.insert_one({"_id": id})
            assert await count(tail, 1) == 1
            await tail.close()
            if lost == "place":
                tail.rewind()
            database.creatures.insert_one({"_id": "next"})
            database.creatures.insert_one({"_id": "last"})
            assert await count(tail, 2) == 2, "one was repeated, or is missing"
            await tail.close()
        client.close()

    asyncio.run(scenario())


@pytest.fixture(scope="module", params=["memory", "log"])
def server(request, sandbox) -> Iterator[ServerProcess]:
    options = ["--history-max-bytes", "0"] if request.param == "log" else []
    server = ServerProcess("--mongo", sandbox.uri, "--database", "every_id", *options)
    try:
        yield server.start()
    finally:
        server.kill()


# A token that holds a large `_id` is longer than a header may be.
@pytest.mark.parametrize("id", [id for id in IDS if id != "large"], indirect=True)
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
