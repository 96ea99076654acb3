"""The client library against the real server, on a real MongoDB."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys

import pytest

from tests.support.commands import Command
from tests.support.node import Follower


@pytest.fixture
def mongo(sandbox, database, start_server):
    return start_server("--mongo", sandbox.uri, "--database", database.name, "--retry-ms", "50")


def test_changes_come_once_and_in_order_across_a_restart(database, mongo):
    pond = database.creatures
    with Follower(mongo.url, "changes", "creatures", {"ops": ["insert", "delete"]}, bundle=False) as follower:
        follower.until_state("live")
        pond.insert_many([{"_id": number} for number in range(20)])
        pond.update_one({"_id": 1}, {"$set": {"size": 3}})
        pond.delete_one({"_id": 0})
        mongo.kill()
        follower.until_state("reconnecting")
        pond.insert_many([{"_id": number} for number in range(20, 40)])
        mongo.start()
        follower.until_state("live")
        pond.insert_many([{"_id": number} for number in range(40, 60)])
        told = [follower.told()[0] for _ in range(61)]
        expected = [("insert", number) for number in range(60)]
        expected.insert(20, ("delete", 0))
        assert [(change["op"], change["id"]) for change in told] == expected


def test_cut_before_any_event_loses_nothing(database, mongo):
    with Follower(mongo.url, "changes", "creatures", bundle=False) as follower:
        follower.until_state("live")
        mongo.kill()
        follower.until_state("reconnecting")
        database.creatures.insert_one({"_id": 1})
        mongo.start()
        assert follower.told()[0]["id"] == 1


def test_dropped_collection_is_a_reset_among_the_changes(database, mongo):
    with Follower(mongo.url, "changes", "creatures", bundle=False) as follower:
        follower.until_state("live")
        database.creatures.insert_one({"_id": 1})
        database.creatures.drop()
        database.creatures.insert_one({"_id": 2})
        told = [follower.told()[0] for _ in range(3)]
        assert [change["op"] for change in told] == ["insert", "reset", "insert"]
        assert told[1]["reason"] == "collection-dropped"


def test_refusal_ends_it_with_the_code(mongo):
    with Follower(mongo.url, "changes", "secrets", bundle=False) as follower:
        assert follower.until_state("ended")["code"] == "unknown-stream"


def test_client_in_python_prints_each_change_once_across_a_restart(database, mongo):
    pond = database.creatures
    command = f"""{sys.executable} docs/example_client.py {mongo.url} creatures '{{"type": "crawdad"}}'"""
    with Command(command) as client:
        # Nothing tells when it has joined but the first event that it prints.
        for number in itertools.count():
            pond.insert_one({"_id": -number, "type": "crawdad"})
            with contextlib.suppress(AssertionError):
                client.until(r".*\n", seconds=0.1)
                break
        first = [json.loads(line)["id"] for line in client.said.splitlines()]
        pond.insert_many([{"_id": 1, "type": "crawdad"}, {"_id": 2, "type": "newt"}])
        client.until(r'(?s).*"id": 1,.*\n')
        mongo.kill()
        pond.insert_one({"_id": 3, "type": "crawdad"})
        mongo.start()
        client.until(r'(?s).*"id": 3,.*\n')
        pond.insert_one({"_id": 4, "type": "crawdad"})
        client.until(r'(?s).*"id": 4,.*\n')
        told = [json.loads(line) for line in client.said.splitlines()]
        ids = [change["id"] for change in told]
        assert ids == [*range(first[0], -number - 1, -1), 1, 3, 4]


def test_client_in_python_ends_when_it_is_refused(mongo):
    with Command(f"{sys.executable} docs/example_client.py {mongo.url} secrets 2>&1") as client:
        client.until(r"(?s).*unknown-stream")
