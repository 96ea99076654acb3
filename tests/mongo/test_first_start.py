"""The first start: the server says what it follows, and asks for what it was not told."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

from brook.namespaces import MAX_NAMES
from sources.sandbox import Node
from tests.support.mongods import running
from tests.support.processes import ROOT, ServerProcess


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(ROOT / "server.py"), "--host", "127.0.0.1", "--port", "0"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)


def naming(sandbox: Any, database: str) -> str:
    """The URI of the sandbox with a database in it."""
    return str(sandbox.uri).replace("/?", f"/{database}?")


def asked(*arguments: str) -> str:
    """The question with which a start ends."""
    ended = run(*arguments)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.count("\n") == 1
    return ended.stderr.removeprefix("babbling-brook: ").strip()


def test_database_without_a_collection_asks_for_one_and_names_those_that_exist(sandbox, database):
    database.orders.insert_one({})
    database.customers.insert_one({})
    database.create_collection("a_view", viewOn="orders", pipeline=[])
    question = asked("--mongo", naming(sandbox, database.name))
    assert question == (
        f"the URI names the database {database.name}, and no collection: add --collection with one of "
        "customers, orders; --collection '*' follows all of them"
    )


def test_names_in_the_question_are_bounded(sandbox, database):
    for number in range(MAX_NAMES + 2):
        database[f"c{number:02}"].insert_one({})
    question = asked("--mongo", naming(sandbox, database.name))
    assert "c00, c01, c02, c03, c04, c05, c06, c07, c08, c09 and 2 more;" in question


def test_database_that_is_mistyped_is_asked_for_with_the_databases_that_exist(sandbox, database):
    database.orders.insert_one({})
    question = asked("--mongo", naming(sandbox, "shoop"))
    assert "the database has none; there are the databases" in question
    assert "--collection NAME" in question


def test_question_of_an_unreachable_mongodb_is_whether_it_runs():
    question = asked("--mongo", "mongodb://127.0.0.1:1/shop?serverSelectionTimeoutMS=300")
    assert question.startswith("cannot reach MongoDB at 127.0.0.1:1")


def test_malformed_uri_is_called_so_before_a_piece_of_it_is_repeated():
    question = asked("--mongo", "mongodb://alice:x/secret")
    assert question.startswith("the MongoDB URI is malformed")
    assert "secret" not in question


def test_standalone_is_asked_for_a_collection_too(tmp_path):
    with running(Node(tmp_path / "node", replica_set="")) as node:
        question = asked("--mongo", f"mongodb://127.0.0.1:{node.port}/shop")
        assert "add --collection NAME, which may be made later" in question


def test_check_tells_the_missing_collection_as_an_error(sandbox, database):
    ended = run("--check", "--mongo", naming(sandbox, database.name), "--format", "json")
    assert ended.returncode == 1
    findings = json.loads(ended.stdout)["findings"]
    [error] = [each for each in findings if each["level"] == "error"]
    assert error["subject"] == "collection"
    assert database.name in error["says"]
    assert "--collection" in error["remedy"]


def test_server_without_a_database_in_the_uri_follows_the_default(sandbox, start_server):
    server = start_server("--mongo", sandbox.uri)
    assert any(line.endswith("the change stream started on babblingBrook.creatures") for line in server.log)


def test_named_collections_are_followed_and_told(sandbox, database, start_server):
    def told(*arguments: str) -> str:
        server: ServerProcess = start_server("--mongo", naming(sandbox, database.name), *arguments)
        [line] = [line for line in server.log if "the change stream started on" in line]
        return line.partition(" started on ")[2]

    name = database.name
    assert told("--collection", "b", "--collection", "a") == f"{name}.a, {name}.b"
    # A namespace names a collection, too.
    assert f"{name}.orders" in told("--namespace", f"{name}.orders")
    # Another database than the one of the URI, which then only says where the user is.
    assert told("--database", "other") == "other.creatures"


def test_start_warns_of_a_collection_in_a_database_that_is_not_there(sandbox, database, start_server):
    database.orders.insert_one({})
    server = start_server("--mongo", sandbox.uri, "--database", "shoop", "--collection", "orders")
    [warning] = [line for line in server.log if "collection shoop.orders" in line]
    assert " WARNING " in warning
    assert re.search(
        r"the database has no collection at all; there are the databases .*: --database", warning
    )


def test_start_names_the_collections_beside_one_that_does_not_exist_yet(sandbox, database, start_server):
    database.todos.insert_one({})
    database.users.insert_one({})
    server = start_server("--mongo", naming(sandbox, database.name), "--collection", "invoices")
    [warning] = [line for line in server.log if f"collection {database.name}.invoices" in line]
    assert warning.endswith("there is none of this name yet (the database has: todos, users)")


def test_start_on_a_mongodb_without_any_documents_warns_of_no_name(start_server):
    """Nothing can be mistyped yet: this is the first screen of `make run`."""
    server = start_server("--sandbox")
    assert not [line for line in server.log if "there is none of this name yet" in line]
    assert any("the change stream started on babblingBrook.creatures" in line for line in server.log)
