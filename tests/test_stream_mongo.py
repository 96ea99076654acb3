"""The stream on a real replica set."""

from __future__ import annotations

import asyncio

from bson import ObjectId

from tests.raw_client import RawClient


def test_article_document_yields_exactly_these_bytes(sandbox, database, start_server):
    server = start_server("--mongo", sandbox.uri, "--database", database.name)

    async def scenario() -> None:
        client = await (await RawClient(server.port).connect()).opened()
        database.creatures.insert_one({"_id": ObjectId("5bfef740419aeed958bbfa1b"), "type": "crawdad"})
        event = await client.next()
        assert f"data: {event.data}\n\n".encode() in client.raw
        assert event.data == '{"_id":"5bfef740419aeed958bbfa1b","type":"crawdad"}'
        assert event.event == "message"
        client.close()

    asyncio.run(scenario())
