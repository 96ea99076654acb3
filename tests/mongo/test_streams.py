"""`GET /streams`, and the 404 that says what there is."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from sources.sandbox import Sandbox


def read(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-store"
        return json.loads(answer.read())


def refusal(url: str) -> tuple[int, dict[str, Any]]:
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(url, timeout=60)
    with raised.value as answer:
        return raised.value.code, json.loads(answer.read())


def test_named_collections_are_listed_by_the_names_of_their_streams(sandbox, database, start_server):
    names = ("--collection", "newts", "--collection", "axolotls", "--namespace", "shop.orders")
    server = start_server("--mongo", sandbox.uri, "--database", database.name, *names)
    streams = read(server.url + "/streams")["streams"]
    assert [(each["name"], each["collection"]) for each in streams] == [
        ("axolotls", f"{database.name}.axolotls"),
        ("newts", f"{database.name}.newts"),
        ("shop.orders", "shop.orders"),
    ]
    assert all(each["modes"] == ["changes", "live", "count"] for each in streams)
    assert all(each["fields"] is None for each in streams)
    status, problem = refusal(server.url + "/stream/nets")
    assert (status, problem["code"]) == (404, "unknown-stream")
    assert problem["detail"] == "there is no stream 'nets'; there are: axolotls, newts, shop.orders"


def test_whole_database_lists_the_collections_that_exist(sandbox, database, start_server):
    server = start_server("--mongo", sandbox.uri, "--database", database.name, "--collection", "*")
    assert read(server.url + "/streams") == {"streams": []}
    database.newts.insert_one({})
    database.command("create", "view", viewOn="newts", pipeline=[])
    (stream,) = read(server.url + "/streams")["streams"]
    assert (stream["name"], stream["collection"]) == ("newts", f"{database.name}.newts")


def test_many_streams_are_cut_short_in_the_404(sandbox, database, start_server):
    names = [option for number in range(12) for option in ("--collection", f"c{number:02}")]
    server = start_server("--mongo", sandbox.uri, "--database", database.name, *names)
    _, problem = refusal(server.url + "/stream/other")
    assert problem["detail"].endswith("c08, c09 and 2 more")


def test_demo_has_one_stream_without_a_name(start_server):
    demo = start_server("--demo")
    (stream,) = read(demo.url + "/streams")["streams"]
    assert stream == {"name": "", "collection": None, "modes": ["changes"], "fields": []}
    status, problem = refusal(demo.url + "/streams?all=1")
    assert (status, problem["code"]) == (400, "invalid-parameter")


@pytest.mark.mongod
def test_list_of_a_whole_database_is_503_while_mongodb_is_away(start_server):
    with Sandbox() as mongodb:
        server = start_server("--mongo", mongodb.uri, "--database", "away", "--collection", "*")
        assert read(server.url + "/streams") == {"streams": []}
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(server.url + "/streams", timeout=60)
    with raised.value as answer:
        assert (answer.code, answer.headers["Retry-After"]) == (503, "1")
