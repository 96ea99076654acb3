"""A transaction that is larger than a reply of MongoDB: a client that is cut off inside it gets all of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pymongo
import pytest

from brook.changes import resume_token
from sources.sandbox import Sandbox
from tests.support.copies import Copy
from tests.support.processes import ServerProcess
from tests.support.raw_client import RawClient

# 20 MB; a reply has at most 16.
DOCUMENTS = [{"_id": n, "n": n, "pad": "x" * 1_000_000} for n in range(20)]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """One with a larger cache: MongoDB refuses a transaction of this size otherwise."""
    with Sandbox() as sandbox, pymongo.MongoClient[Any](sandbox.uri) as client:
        client.admin.command("setParameter", 1, wiredTigerEngineRuntimeConfig="cache_size=1GB")
        yield sandbox


@pytest.fixture
def creatures(sandbox) -> Iterator[Any]:
    with pymongo.MongoClient[Any](sandbox.uri) as client:
        yield client.live.creatures
        client.drop_database("live")


def insert_together(creatures: Any, documents: list[dict[str, Any]]) -> None:
    """In one transaction."""

    def insert(session: Any) -> None:
        for document in documents:
            creatures.insert_one(document, session=session)

    with creatures.database.client.start_session() as session:
        session.with_transaction(insert)


class Follower(Copy):
    """A copy, and the connection that keeps it true."""

    def __init__(self, server: ServerProcess, last_id: str = "", held: dict[str, Any] | None = None) -> None:
        super().__init__(held)
        self.client = RawClient(server.port, "/stream/creatures?mode=live&fields=n", last_id=last_id)
        self.names: list[str] = []
        self.id = ""

    async def next(self) -> Any:
        event = await self.client.next()
        self.names.append(event.event)
        self.id = event.id
        data = json.loads(event.data)
        self.apply(event.event, data)
        return data

    async def until_live(self) -> Any:
        await self.client.connect()
        while True:
            data = await self.next()
            if self.names[-1] == "live":
                return data


@pytest.mark.parametrize("where", ["record", "history"])
def test_live_query_is_true_after_a_cut_inside(where, sandbox, creatures, start_server):
    """From the record of its result set, or on another server from the recent events."""
    count = 1 if where == "record" else 2
    servers = [start_server("--mongo", sandbox.uri, "--database", "live") for _ in range(count)]

    async def come_back(id: str, held: dict[str, Any]) -> Follower:
        back = Follower(servers[-1], id, dict(held))
        with closing(back.client):
            assert await back.until_live() == {"count": 22, "resumed": True}
        return back

    async def scenario() -> None:
        first, copy = Follower(servers[0]), Follower(servers[0])
        with closing(first.client), closing(copy.client):
            await first.until_live()
            await copy.until_live()
            await asyncio.to_thread(insert_together, creatures, DOCUMENTS)
            await first.next()
            assert 0 < len(first.held) < 20
            while len(copy.held) < 20:
                await copy.next()
            for id in (20, 21):
                await asyncio.to_thread(creatures.insert_one, {"_id": id, "n": id})
                await copy.next()
        assert (await come_back(first.id, first.held)).held == copy.held
        # A position behind the transaction does not repeat it.
        back = await come_back(copy.id, copy.held)
        assert where == "history" or back.names == ["live"]

    asyncio.run(scenario())


def test_transaction_that_fits_into_a_reply_ends_with_its_own_time(sandbox, creatures, start_server):
    """MongoDB's answer alone does not say that it is whole."""
    server = start_server("--mongo", sandbox.uri, "--database", "live")

    async def scenario() -> None:
        copy = Follower(server)
        with closing(copy.client):
            await copy.until_live()
            for count in (1, 3, 8):
                documents = [{**each, "_id": f"{count} {each['n']}"} for each in DOCUMENTS[:count]]
                await asyncio.to_thread(insert_together, creatures, documents)
                await copy.next()
                back = Follower(server, copy.id, dict(copy.held))
                with closing(back.client):
                    await back.until_live()
                assert back.names == ["live"]

    asyncio.run(scenario())


def test_commit_of_a_bundle_promises_no_more_than_was_sent(sandbox, creatures, start_server):
    """Of changes that are read from the log, and sent in several parts."""
    server = start_server(
        "--mongo", sandbox.uri, "--database", "live", "--history-max-bytes", "0", "--warm-up-seconds", "0"
    )
    creatures.insert_one({"_id": "before"})
    time = creatures.database.client.admin.command("ping")["operationTime"]
    since = resume_token.checkpoint((time.time, time.inc)).id
    insert_together(creatures, DOCUMENTS)
    wanted = {"mode": "changes", "format": "envelope", "fields": "n"}
    body = json.dumps({"subscriptions": {"a": wanted}, "since": since}).encode()

    async def scenario() -> list[int]:
        """The number of documents before each commit that is behind the transaction."""
        heard, behind = 0, []
        with closing(await RawClient(server.port, body=body).connect()) as client:
            while not behind:
                event = await client.next()
                heard += event.event == "insert"
                if event.event == "commit" and resume_token.position(event.id) > after:
                    behind.append(heard)
        return behind

    after = resume_token.position(since)
    assert asyncio.run(scenario()) == [20]
