"""Streams that the configuration names on a server without access rules: views, open to everybody."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing

import pytest

from tests.support.guarded import documents, get
from tests.support.processes import ServerProcess
from tests.support.raw_client import RawClient

CONFIGURATION = """
database = "guarded"
collection = ["orders"]

[streams.open]
namespace = "guarded.orders"
filter = { status = "open" }
fields = ["status"]

[streams.default]
namespace = "guarded.orders"
filter = { status = "done" }
"""


@pytest.fixture(scope="module")
def server(start_guarded, orders) -> ServerProcess:
    orders.insert_many([{"_id": 1, "status": "open", "secret": 1}, {"_id": 2, "status": "done"}])
    return start_guarded(CONFIGURATION)


def test_view_has_its_documents_and_fields_beside_the_collection(server):
    assert documents(server, "/documents/open") == [{"_id": 1, "status": "open"}]
    assert [one["_id"] for one in documents(server, "/documents/orders")] == [1, 2]
    assert get(server, "/documents/secret")[0] == 404


def test_view_named_default_is_the_bare_stream(server):
    assert [one["_id"] for one in documents(server, "/documents")] == [2]


def test_views_are_listed_with_the_collections(server):
    listed = get(server, "/streams", guarded=False)[1]["streams"]
    assert {one["name"]: one["fields"] for one in listed} == {
        "": None,
        "open": ["status"],
        "orders": None,
    }


def test_hidden_field_of_a_view_cannot_be_asked_about(server):
    status, problem = get(server, "/documents/open?filter=%7B%22secret%22:1%7D")
    assert (status, problem["code"]) == (400, "invalid-filter")


def test_view_is_a_part_of_a_bundle(server):
    async def scenario() -> None:
        body = {
            "subscriptions": {
                "a": {"stream": "open", "mode": "live"},
                "b": {"stream": "orders", "mode": "count"},
            }
        }
        client = RawClient(server.port, body=json.dumps(body).encode())
        with closing(await client.connect()):
            while b"event: commit" not in client.raw:
                assert await client.read()
        assert b'{"_id":1,"status":"open"}' in client.raw
        assert b'"count":2' in client.raw
        assert b"secret" not in client.raw

    asyncio.run(scenario())


def test_start_warns_that_everybody_can_read(server):
    assert any("no access rules" in line for line in server.log)
