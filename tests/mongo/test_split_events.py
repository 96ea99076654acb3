"""Changes of more than 16 MB arrive whole where MongoDB splits them: here, on 6.0.27."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pymongo
import pytest

from sources.sandbox import Sandbox
from tests.support.newer_mongod import folder_with_mongod
from tests.support.processes import ServerProcess
from tests.support.raw_client import RawClient, Received

FILLER = int(8.6 * 1024 * 1024)

pytestmark = pytest.mark.mongod


@pytest.fixture(scope="module")
def newer() -> Iterator[Sandbox]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder_with_mongod()}{os.pathsep}{os.environ['PATH']}")
        with Sandbox() as sandbox:
            yield sandbox


@pytest.fixture
def creatures(newer) -> Iterator[Any]:
    with pymongo.MongoClient[Any](newer.uri) as client:
        client.drop_database("split")
        yield client.split.create_collection("creatures", changeStreamPreAndPostImages={"enabled": True})


@pytest.fixture(params=["memory", "log"])
def server(request, newer, creatures, start_server) -> ServerProcess:
    history = ["--history-max-bytes", "0"] if request.param == "log" else []
    return start_server("--mongo", newer.uri, "--database", "split", *history)


def test_change_of_more_than_16_mb_arrives_whole_and_is_resumed_after(server, creatures):
    """Shown without the filler, which is in each change twice or three times."""
    expected = [
        ("insert", 1, {"_id": 1, "n": 1}, None),
        ("update", 1, {"_id": 1, "n": 2}, {"_id": 1, "n": 1}),
        ("replace", 1, {"_id": 1, "n": 3}, {"_id": 1, "n": 2}),
        ("insert", 2, {"_id": 2}, None),
    ]

    def words(event: Received) -> tuple[object, ...]:
        data = json.loads(event.data)
        return event.event, data["id"], data["doc"], data["before"]

    async def scenario() -> None:
        path = "/stream?format=envelope&before=1&fields=n"
        with closing(await RawClient(server.port, path).connect()) as client:
            await client.opened()
            creatures.insert_one({"_id": 1, "n": 1, "filler": "x" * FILLER})
            creatures.update_one({"_id": 1}, {"$set": {"n": 2, "filler": "y" * FILLER}})
            creatures.replace_one({"_id": 1}, {"n": 3, "filler": "z" * FILLER})
            creatures.insert_one({"_id": 2})
            events = [await client.next() for _ in expected]
        assert [words(event) for event in events] == expected
        for count in (1, 2, 3):
            last_id = events[count - 1].id
            with closing(await RawClient(server.port, path, last_id=last_id).connect()) as client:
                again = [await client.next() for _ in expected[count:]]
            assert [event.id for event in again] == [event.id for event in events[count:]]
            assert [words(event) for event in again] == expected[count:]

    asyncio.run(scenario())
    assert not [line for line in server.log if "16 MB" in line]
