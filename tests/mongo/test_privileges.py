"""The least rights that the docs give to the server's user, at a MongoDB with users: enough, and no more."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pymongo
import pytest
import yaml
from pymongo.errors import OperationFailure

from sources.sandbox import Node
from tests.support import mongods
from tests.support.processes import ROOT, ServerProcess
from tests.support.raw_client import RawClient

SECRET = "hunter2"


def documented() -> list[tuple[str, str, dict[str, Any]]]:
    """The commands of docs/deployment.md: a database, a helper of mongosh, and its argument."""
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```js\n(db\.getSiblingDB.*?)```", page, re.S)
    found = re.findall(r'db\.getSiblingDB\("(\w+)"\)\.(\w+)\((\{.*?\})\n?\)\n', block + "\n", re.S)
    return [(database, helper, yaml.safe_load(argument)) for database, helper, argument in found]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Iterator[tuple[Node, Any]]:
    """A replica set with users, in which the commands of the docs were run; and its root."""
    with mongods.guarded(tmp_path_factory.mktemp("guarded"), SECRET, {}) as (node, root):
        for database, helper, argument in documented():
            name = argument.pop("role", None) or argument.pop("user")
            if argument.get("pwd") == "passwordPrompt()":
                argument["pwd"] = SECRET
            root[database].command(helper, name, **argument)
        root.shop.orders.insert_one({"_id": 1})
        root.elsewhere.orders.insert_one({"_id": 1})
        yield node, root


def uri(node: Node) -> str:
    return f"mongodb://brook:{SECRET}@127.0.0.1:{node.port}/shop?replicaSet=sandbox"


def documents(server: ServerProcess) -> list[Any]:
    with urllib.request.urlopen(server.url + "/documents/orders", timeout=20) as answer:
        return json.loads(answer.read())["docs"]


def test_documented_commands_are_a_role_and_a_user():
    assert [helper for _, helper, _ in documented()] == ["createRole", "createUser"]


def test_least_rights_are_enough_for_changes_live_queries_and_resuming(guarded, start_server):
    node, root = guarded
    server = start_server("--mongo", uri(node), "--collection", "orders", "--warm-up-seconds", "0")
    assert documents(server) == [{"_id": 1}]

    async def scenario() -> None:
        with (
            closing(await (await RawClient(server.port).connect()).opened()) as changes,
            closing(
                await (await RawClient(server.port, "/stream/orders?mode=live").connect()).opened()
            ) as live,
        ):
            assert json.loads((await live.next()).data) == {"docs": [{"_id": 1}]}
            assert (await live.next()).event == "live"
            root.shop.orders.insert_one({"_id": 2})
            root.shop.orders.update_one({"_id": 2}, {"$set": {"size": 3}})
            first = await changes.next()
            while (await changes.next()).data != '{"_id":2,"size":3}':
                pass
            assert (await live.next()).event == "changes"
        with closing(await RawClient(server.port, last_id=first.id).connect()) as again:
            assert json.loads((await again.next()).data)["_id"] == 2

    asyncio.run(scenario())
    assert SECRET not in "\n".join(server.log)


@pytest.mark.parametrize(
    ("database", "operation"),
    [
        ("shop", lambda collection: collection.insert_one({})),
        ("shop", lambda collection: collection.drop()),
        ("elsewhere", lambda collection: collection.find_one()),
    ],
    ids=["write", "drop", "read elsewhere"],
)
def test_least_rights_allow_nothing_else(guarded, database, operation):
    node, _ = guarded
    with pymongo.MongoClient(uri(node)) as client, pytest.raises(OperationFailure) as refused:
        operation(client[database].orders)
    assert refused.value.code == 13
