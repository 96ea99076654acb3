"""MongoDB may scan its log for as long as it takes; a MongoDB that hangs is told apart from that."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import bson
import pymongo
import pytest
from bson.raw_bson import RawBSONDocument

from brook.changes.change import Change
from brook.settings import Settings
from sources.mongo import MongoSource, cursor
from sources.sandbox import Sandbox
from tests.support.processes import ServerProcess
from tests.support.proxy import Proxy
from tests.support.raw_client import RawClient

pytestmark = pytest.mark.mongod

# Noticing takes 8 s at most: a ping every 2.5 s, and 5 s for its answer.
NOTICED_SECONDS = 12


@pytest.fixture(scope="module")
def own() -> Iterator[Sandbox]:
    """A log that no other test fills."""
    with Sandbox(options=["--oplogSize", "2000"]) as sandbox:
        yield sandbox


@pytest.fixture
def ponds(own) -> Iterator[Any]:
    with pymongo.MongoClient[Any](own.uri) as client:
        client.drop_database("ponds")
        yield client.ponds


def write_elsewhere(client: pymongo.MongoClient[Any], count: int) -> None:
    """Documents of a database that nobody follows."""
    part = 10_000
    for _ in range(count // part):
        client.elsewhere.filler.insert_many(
            [RawBSONDocument(bson.encode({"_id": bson.ObjectId()})) for _ in range(part)], ordered=False
        )


@pytest.mark.parametrize("patience_seconds", [240.0, 0.06], ids=["one scan", "several tries"])
def test_scan_that_outlasts_every_time_out_is_waited_for_and_told(
    own, ponds, caplog, monkeypatch, patience_seconds
):
    """100,000 entries take some 0.4 s, and every time-out of the driver is shorter.

    A scan that is given up begins again at the same place, and would for ever with the same limit.
    """
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(cursor, "LATE_SECONDS", 0.05)
    monkeypatch.setattr(cursor, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(cursor, "PATIENCE_SECONDS", patience_seconds)

    async def scenario() -> list[Any]:
        source = MongoSource(own.uri + "&socketTimeoutMS=100", Settings(database="ponds", warm_up_seconds=0))
        await source.open()
        try:
            await asyncio.to_thread(write_elsewhere, ponds.client, 100_000)
            ponds.creatures.insert_many([{"_id": 1}, {"_id": 2}])
            heard: list[Any] = []
            async with asyncio.timeout(30):
                async for batch in source.events():
                    changes = [event for event in batch.events if isinstance(event, Change)]
                    heard += [bson.decode(change.raw)["documentKey"]["_id"] for change in changes]
                    if heard:
                        assert source.interruption is None
                        return heard
        finally:
            await source.close()
        raise AssertionError("the source ended")

    assert asyncio.run(scenario()) == [1, 2]
    told = [record.getMessage() for record in caplog.records if "change stream" in record.getMessage()]
    assert any("scanning its log" in message for message in told) or patience_seconds < 1
    assert any("although it answers others" in message for message in told) == (patience_seconds < 1)
    assert told[-1] == "the change stream goes on"


@pytest.mark.long
@pytest.mark.timeout(900)
def test_millions_of_foreign_writes_while_the_server_is_down_stop_nothing(own, ponds, start_server):
    """The warm-up, a client that comes back, and the feed: each has 2.6 million entries to pass."""
    options = ["--mongo", own.uri, "--database", "ponds", "--warm-up-seconds", "600"]
    server = start_server(*options)

    async def scenario() -> None:
        with closing(await (await RawClient(server.port).connect()).opened()) as client:
            ponds.creatures.insert_one({"_id": 1})
            place = (await client.next()).id
        assert server.stop() == 0
        await asyncio.to_thread(write_elsewhere, ponds.client, 2_600_000)
        missed = [{"_id": 2}]
        ponds.creatures.insert_one({"_id": 2})
        for further in ([], ["--history-max-bytes", "0"]):
            again = ServerProcess(*options, *further)
            try:
                await asyncio.to_thread(again.start)
                with closing(await RawClient(again.port, last_id=place).connect()) as client:
                    assert [json.loads((await client.next()).data) for _ in missed] == missed
                    missed.append({"_id": 2 + len(missed)})
                    ponds.creatures.insert_one(missed[-1])
                    assert json.loads((await client.next()).data) == missed[-1]
                assert any("scanning its log" in line for line in again.log)
                assert not [line for line in again.log if "Traceback" in line]
            finally:
                again.kill()

    asyncio.run(scenario())


async def until_ready(server: ServerProcess, ready: bool) -> None:
    async with asyncio.timeout(NOTICED_SECONDS):
        while True:
            with closing(await RawClient(server.port, "/readyz").connect()) as client:
                if (client.status == 200) == ready:
                    return
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("how", ["mongod hangs", "network swallows"])
def test_silence_is_noticed_and_recovered_from(own, ponds, start_server, how):
    """With the time-outs that a user has."""
    pid = own.nodes[0].pid
    assert pid is not None
    with Proxy(own.nodes[0].port) as proxy:
        server = start_server("--mongo", proxy.uri, "--database", "ponds")

        async def scenario() -> None:
            with closing(await (await RawClient(server.port).connect()).opened()) as client:
                ponds.creatures.insert_one({"_id": 1})
                assert json.loads((await client.next()).data) == {"_id": 1}
                os.kill(pid, signal.SIGSTOP) if how == "mongod hangs" else proxy.freeze()
                try:
                    await until_ready(server, False)
                finally:
                    os.kill(pid, signal.SIGCONT)
                    proxy.thaw()
                ponds.creatures.insert_one({"_id": 2})
                async with asyncio.timeout(30):
                    while (event := await client.next()).event == "feed":
                        pass
                assert json.loads(event.data) == {"_id": 2}
                await until_ready(server, True)

        asyncio.run(scenario())
        assert not [line for line in server.log if "Traceback" in line]
