"""`GET /documents`: what a query holds now, and a stream that goes on from there."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pymongo
import pytest
from bson import ObjectId
from pymongo import WriteConcern

from sources.sandbox import Sandbox
from tests.support.copies import Copy
from tests.support.processes import ServerProcess
from tests.support.raw_client import RawClient


@pytest.fixture(scope="module")
def server(sandbox) -> Iterator[ServerProcess]:
    options = ["--snapshot-max-documents", "50", "--write-timeout-seconds", "1", "--snapshot-cursors", "1"]
    server = ServerProcess("--mongo", sandbox.uri, "--database", "listed", *options)
    try:
        yield server.start()
    finally:
        server.kill()


@pytest.fixture(scope="module")
def patient(sandbox) -> Iterator[ServerProcess]:
    """A server that waits for slow readers for a minute."""
    options = ["--write-timeout-seconds", "60", "--snapshot-cursors", "1"]
    server = ServerProcess("--mongo", sandbox.uri, "--database", "listed", *options)
    try:
        yield server.start()
    finally:
        server.kill()


@pytest.fixture
def creatures(sandbox) -> Iterator[Any]:
    with pymongo.MongoClient[Any](sandbox.uri) as client:
        creatures = client.listed.get_collection("creatures", write_concern=WriteConcern("majority"))
        creatures.delete_many({})
        yield creatures


def get(server: ServerProcess, name: str = "/creatures", **parameters: Any) -> dict[str, Any]:
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in parameters.items()}
    query = "&".join(f"{key}={quote(text)}" for key, text in texts.items())
    with urllib.request.urlopen(f"{server.url}/documents{name}?{query}", timeout=20) as answer:
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        return json.loads(answer.read())


def refusal(server: ServerProcess, path: str) -> tuple[int, dict[str, Any]]:
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(server.url + path, timeout=20)
    with raised.value as answer:
        return raised.value.code, json.loads(answer.read())


def test_write_is_seen_at_once(server, creatures):
    for number in range(20):
        creatures.insert_one({"_id": number})
        assert [document["_id"] for document in get(server)["docs"]] == [*range(number + 1)]


def test_parameters_of_a_live_query(server, creatures):
    id = ObjectId()
    creatures.insert_many([{"_id": id, "size": 3, "type": "newt"}, {"_id": 2, "size": 9}, {"_id": 3}])
    docs = get(server, sort={"size": -1}, limit="2", fields="size", types="ejson")["docs"]
    assert docs == [{"_id": 2, "size": 9}, {"_id": {"$oid": str(id)}, "size": 3}]
    assert get(server, filter={"type": "newt"})["docs"] == [{"_id": str(id), "size": 3, "type": "newt"}]
    assert get(server, "", filter={"type": "no such"})["docs"] == []


def test_stream_goes_on_from_the_position_with_nothing_between(server, creatures):
    async def follow() -> list[Any]:
        creatures.insert_one({"_id": "before"})
        listed = get(server)
        creatures.insert_one({"_id": "between"})
        seen = [document["_id"] for document in listed["docs"]]
        path = f"/stream/creatures?since={listed['position']}"
        with closing(await RawClient(server.port, path).connect()) as client:
            creatures.insert_one({"_id": "after"})
            while seen[-1] != "after":
                seen.append(json.loads((await client.next()).data)["_id"])
        return seen

    assert asyncio.run(follow()) == ["before", "between", "after"]


def test_live_query_goes_on_from_the_position(server, creatures):
    async def follow() -> dict[str, Any]:
        creatures.insert_one({"_id": "before"})
        listed = get(server)
        creatures.delete_one({"_id": "before"})
        copy = Copy({json.dumps(document["_id"]): document for document in listed["docs"]})
        path = f"/stream/creatures?mode=live&since={listed['position']}"
        with closing(await RawClient(server.port, path).connect()) as client:
            creatures.insert_one({"_id": "after"})
            while '"after"' not in copy.held:
                event = await client.next()
                copy.apply(event.event, json.loads(event.data))
        return copy.held

    assert list(asyncio.run(follow())) == ['"after"']


def test_too_many_documents_are_413(server, creatures):
    creatures.insert_many([{"_id": number} for number in range(51)])
    status, problem = refusal(server, "/documents/creatures")
    assert (status, problem["code"]) == (413, "snapshot-too-large")
    assert "more than 50 documents" in problem["detail"]
    assert len(get(server, sort={"_id": 1}, limit="51")["docs"]) == 51


@pytest.mark.parametrize(
    ("path", "status", "code", "detail"),
    [
        ("/documents/nothing", 404, "unknown-stream", "no stream 'nothing'"),
        ("/documents?mode=live", 400, "invalid-parameter", "filter, fields, types, sort, limit"),
        ("/documents?since=now", 400, "invalid-parameter", "filter, fields, types, sort, limit"),
        ("/documents?limit=2", 400, "invalid-parameter", "limit needs sort"),
        ("/documents?filter=%7B%22$where%22:1%7D", 400, "invalid-filter", "$where"),
        ("/documents?fields=%FF", 400, "invalid-parameter", "is not UTF-8"),
    ],
)
def test_bad_requests_are_problems(server, path, status, code, detail):
    answered, problem = refusal(server, path)
    assert (answered, problem["code"]) == (status, code)
    assert detail in problem["detail"]


def test_demo_has_no_documents(start_server):
    status, problem = refusal(start_server("--demo"), "/documents")
    assert (status, problem["code"]) == (404, "unknown-stream")


def test_small_answer_does_not_wait_for_a_client_that_takes_nothing(patient, creatures):
    creatures.insert_many([{"_id": number, "text": "x" * 600_000} for number in range(25)])
    with socket.create_connection(("127.0.0.1", patient.port)) as stuck:
        stuck.sendall(b"GET /documents HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert stuck.recv(15) == b"HTTP/1.1 200 OK"
        assert [document["_id"] for document in get(patient, filter={"_id": 7})["docs"]] == [7]


def test_client_that_takes_nothing_loses_its_place_to_the_next(server, creatures):
    # More than the kernels of both sides hold.
    creatures.insert_many([{"_id": number, "text": "x" * 600_000} for number in range(25)])
    with socket.create_connection(("127.0.0.1", server.port)) as stuck:
        stuck.sendall(b"GET /documents HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert stuck.recv(15) == b"HTTP/1.1 200 OK"
        assert len(get(server)["docs"]) == 25


@pytest.mark.mongod
def test_mongodb_that_is_away_is_a_503_that_says_when_to_come_back(start_server):
    with Sandbox() as mongodb:
        server = start_server("--mongo", f"{mongodb.uri}&serverSelectionTimeoutMS=3000", "--database", "away")
        assert get(server)["docs"] == []
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(server.url + "/documents", timeout=60)
    with raised.value as answer:
        assert (answer.code, answer.headers["Retry-After"]) == (503, "1")
        assert json.loads(answer.read())["code"] == "not-ready"
