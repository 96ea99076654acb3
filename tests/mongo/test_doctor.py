"""`--check` on a real MongoDB, and on none."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import Timestamp

from brook import finding, host
from brook.finding import Finding, Level
from brook.settings import Settings
from sources.mongo import doctor, look_alikes
from sources.mongo.indexes import LARGE, SMALL, FilteredStream
from sources.sandbox import Node, Sandbox
from tests.support import mongods
from tests.support.mongods import running
from tests.support.processes import ROOT

SECRET = "s3cret-brook"

OK, NOTE, WARNING, ERROR = Level.OK, Level.NOTE, Level.WARNING, Level.ERROR


def check(uri: str, *, streams: Collection[FilteredStream] = (), **settings: Any) -> dict[str, Finding]:
    """The findings about a MongoDB, by subject."""
    found = asyncio.run(doctor.examine(uri, Settings(**settings), streams=streams))
    subjects = [each.subject for each in found]
    assert len(subjects) == len(set(subjects))
    assert SECRET not in finding.text(found) + finding.as_json(found)
    for each in found:
        assert each.remedy or each.level in (OK, NOTE, ERROR), each
    return {each.subject: each for each in found}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(ROOT / "server.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


# -- indexes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("documents", "index", "level"),
    [
        (SMALL - 1, None, OK),
        (SMALL, None, NOTE),
        (LARGE, None, WARNING),
        (LARGE, "owner", OK),
        (SMALL, "a", NOTE),
    ],
)
def test_filter_of_a_stream_wants_an_index(sandbox, database, documents, index, level):
    database.orders.insert_many([{"owner": number} for number in range(documents)])
    if index:
        database.orders.create_index([(index, 1), ("time", 1)])
    stream = FilteredStream("mine", f"{database.name}.orders", {"owner"})
    found = check(sandbox.uri, streams=[stream], database=database.name, collection=("orders",))[
        "stream mine"
    ]
    assert found.level is level
    assert (found.remedy == 'db.orders.createIndex({"owner": 1})') == (level is not OK)


def test_fields_of_the_configured_filters_are_looked_at(tmp_path, sandbox, database):
    database.orders.insert_many([{"owner": number} for number in range(SMALL)])
    path = tmp_path / "brook.toml"
    path.write_text(
        f"""
        [access]
        authorize_url = "http://localhost:1/"
        [streams.mine]
        namespace = "{database.name}.orders"
        filter = {{ owner = {{ "$oid" = "$claims.sub" }}, size = {{ "$gt" = 5 }} }}
        """
    )
    done = run("--check", "--mongo", sandbox.uri, "--config", str(path))
    assert done.returncode == 0, done.stderr
    assert "stream mine: no index begins with owner: each live query reads all 1,000 documents" in done.stdout


# -- a MongoDB that works --------------------------------------------------------------------------


def test_healthy_mongodb_has_no_error(sandbox, database):
    database.create_collection("creatures", changeStreamPreAndPostImages={"enabled": True})
    found = check(sandbox.uri, database=database.name)
    creatures = f"collection {database.name}.creatures"
    assert list(found) == [
        "reachable", "version", "clock", "replica set", "privileges", creatures, "oplog", "journal",
        "change stream",
    ]  # fmt: skip
    for subject in ("reachable", "clock", creatures, "oplog", "journal", "change stream"):
        assert found[subject].level is OK, found[subject]
    assert str(sandbox.nodes[0].port) in found["reachable"].says
    assert found["replica set"].level is NOTE
    assert found["privileges"].level is WARNING, "this one asks for no user"


def test_mistyped_collection_is_named_with_the_one_that_is_meant(sandbox, database):
    database.orders.insert_one({})
    database.customers.insert_one({})
    found = check(sandbox.uri, database=database.name, collection=("order", "invoices", "customers"))
    mistyped = found[f"collection {database.name}.order"]
    assert (mistyped.level, "--collection orders" in mistyped.remedy) == (WARNING, True)
    unlike = found[f"collection {database.name}.invoices"]
    assert (unlike.level, unlike.remedy) == (WARNING, "the database has: customers, orders")
    plain = found[f"collection {database.name}.customers"]
    assert plain.level is NOTE
    assert "collMod" in plain.remedy


def test_server_warns_of_a_mistyped_collection_when_it_starts(sandbox, database, start_server):
    database.orders.insert_one({})
    server = start_server("--mongo", sandbox.uri, "--database", database.name, "--collection", "order")
    assert [line for line in server.log if "WARNING" in line and "--collection orders" in line]


def test_mistyped_database_is_named_with_those_that_exist(sandbox, database):
    database.orders.insert_one({})
    found = check(sandbox.uri, database="nowhere", collection=("orders",))
    assert database.name in found["collection nowhere.orders"].remedy
    assert (
        database.name in check(sandbox.uri, database="nowhere", collection=("*",))["database nowhere"].remedy
    )


def test_view_has_no_change_stream_of_its_own(sandbox, database):
    database.orders.insert_one({})
    database.create_collection("open_orders", viewOn="orders", pipeline=[])
    found = check(sandbox.uri, database=database.name, collection=("open_orders",))
    view = found[f"collection {database.name}.open_orders"]
    assert view.level is WARNING
    assert view.remedy.endswith(": orders")


def test_command_prints_the_findings_and_exits_with_0(sandbox, database):
    options = ("--check", "--mongo", sandbox.uri, "--database", database.name)
    text = run(*options)
    assert (text.returncode, text.stderr) == (0, "")
    assert re.search(r"^ok +change stream: opens on ", text.stdout, re.M)
    as_json = run(*options, "--format", "json")
    assert as_json.returncode == 0
    document = json.loads(as_json.stdout)
    assert document["works"] is True
    subjects = [each["subject"] for each in document["findings"]]
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `([\w. -]+)` \| [^|]*\|$", page, re.M)
    assert {subject.partition(" t")[0] for subject in subjects} <= set(documented)
    assert set(documented) - {"look-alike", "stream", "certificate"} <= {
        subject.partition(" t")[0] for subject in subjects
    }


# -- a replica set that lacks a member -------------------------------------------------------------


def reconfigure(primary: Node, port: int, **options: object) -> None:
    """Change a member of a replica set."""
    with primary.client() as client:
        config = client.admin.command("replSetGetConfig")["config"]
        [member] = [each for each in config["members"] if each["host"].endswith(f":{port}")]
        member.update(options)
        config["version"] += 1
        client.admin.command("replSetReconfig", config)


def test_member_that_does_not_answer_is_named():
    with Sandbox(nodes=3) as three:
        primary = three.primary()
        stopped, other = (node for node in three.nodes if node is not primary)
        answer = [f"127.0.0.1:{node.port}" for node in (primary, other, stopped)]

        found = check(three.uri)
        assert all(host in found["reachable"].says for host in answer)
        assert found["replica set"].level is OK
        assert found["replica set"].says.startswith("sandbox has 3 members: ")

        reconfigure(primary, stopped.port, priority=0)  # a passive member is one, too
        stopped.stop(signal.SIGKILL)
        for uri in (three.uri, f"mongodb://{answer[0]}/?replicaSet=sandbox"):
            done = run("--check", "--mongo", uri, "--format", "json")
            assert done.returncode == 0, done.stdout
            found = {each["subject"]: each for each in json.loads(done.stdout)["findings"]}
            assert found["reachable"]["level"] == "ok"
            assert all(host in found["reachable"]["says"] for host in answer[:2])
            assert answer[2] not in found["reachable"]["says"]
            assert found["replica set"]["level"] == "warning"
            assert found["replica set"]["says"] == f"{answer[2]} does not answer"
            assert "rs.status()" in found["replica set"]["remedy"]
            assert found["change stream"]["level"] == "ok"

        reconfigure(primary, stopped.port, hidden=True)
        assert check(three.uri)["replica set"].says.startswith("sandbox has 2 members: ")


# -- one that does not -----------------------------------------------------------------------------


def test_standalone_cannot_work(tmp_path):
    with running(Node(tmp_path / "node", replica_set="")) as node:
        found = check(f"mongodb://127.0.0.1:{node.port}/")
    assert found["replica set"].level is ERROR
    assert "change stream" not in found


def test_unreachable_mongodb_is_an_error_and_its_password_stays_secret():
    uri = f"mongodb://alice:{SECRET}@127.0.0.1:1/?serverSelectionTimeoutMS=300"
    assert [each.level for each in check(uri).values()] == [ERROR]
    done = run("--check", "--mongo", uri)
    assert done.returncode == 1
    assert done.stdout.startswith("error    reachable: cannot reach MongoDB at 127.0.0.1:1")
    assert SECRET not in done.stdout + done.stderr


def test_malformed_uri_is_an_error():
    assert check(f"mongodb://alice:{SECRET}@/")["URI"].level is ERROR


def test_check_takes_a_uri():
    assert run("--check", "--demo").returncode == 2


# -- rights ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Iterator[Node]:
    """A replica set that wants a user and a password."""
    here = {"role": "read", "db": "babblingBrook"}
    users = {
        "stranger": [{"role": "read", "db": "elsewhere"}],
        "reader": [here],
        "watcher": [here, {"role": "read", "db": "local"}],
        "writer": [{"role": "readWrite", "db": "babblingBrook"}],
    }
    with mongods.guarded(tmp_path_factory.mktemp("guarded"), SECRET, users) as (node, root):
        root.babblingBrook.creatures.insert_one({})
        yield node


def as_user(node: Node, name: str) -> dict[str, Finding]:
    return check(f"mongodb://{name}:{SECRET}@127.0.0.1:{node.port}/")


def test_user_who_may_read_is_enough_and_is_told_what_it_cannot_see(guarded):
    found = as_user(guarded, "reader")
    assert found["privileges"].level is OK
    assert found["change stream"].level is OK
    assert found["collection babblingBrook.creatures"].level is NOTE
    assert (found["oplog"].level, "local" in found["oplog"].remedy) == (NOTE, True)
    assert found["journal"].level is NOTE
    assert as_user(guarded, "watcher")["oplog"].level is OK


def test_user_who_may_write_has_more_than_it_needs(guarded):
    found = as_user(guarded, "writer")
    assert found["privileges"].level is WARNING
    assert '{role: "read", db: "babblingBrook"}' in found["privileges"].remedy


def test_user_without_the_right_cannot_work(guarded):
    found = as_user(guarded, "stranger")
    assert found["change stream"].level is ERROR
    assert "grantRolesToUser" in found["change stream"].says


def test_wrong_password_cannot_work(guarded):
    # In a process of its own: the driver leaves a socket to the collector.
    uri = f"mongodb://reader:{SECRET}@127.0.0.1:{guarded.port}/"
    done = run("--check", "--mongo", uri.replace("reader", "nobody"))
    assert done.returncode == 1
    assert done.stdout.startswith("error    reachable: ")
    assert SECRET not in done.stdout + done.stderr


# -- look-alikes, logs and machines that are not at hand -------------------------------------------


@pytest.mark.parametrize(
    ("hosts", "build", "name"),
    [
        (["docs.cluster-x.eu-west-1.docdb.amazonaws.com"], {}, "DocumentDB"),
        (["x.docdb-elastic.amazonaws.com"], {}, "DocumentDB"),
        (["acc.mongo.cosmos.azure.com"], {}, "Azure Cosmos DB:"),
        (["c.mongocluster.Cosmos.Azure.com"], {}, "Azure DocumentDB"),
        (["127.0.0.1"], {"ferretdbVersion": "v1.24.0"}, "FerretDB"),
        (["127.0.0.1"], {"ferretdb": {"version": "v2.7.0"}}, "FerretDB"),
    ],
)
def test_look_alike_is_named_with_what_it_lacks(hosts, build, name):
    [found] = look_alikes.examine(hosts, {"version": "7.0.0", **build})
    assert found.level is WARNING
    assert name in found.says
    assert found.remedy


def test_mongodb_is_no_look_alike():
    assert not look_alikes.examine(["cluster0.abc.mongodb.net", "127.0.0.1"], {"version": "8.0.0"})


class FullLog:
    """A client whose log is full, and reaches back for some hours."""

    def __init__(self, hours: float) -> None:
        self.hours = hours

    @property
    def local(self) -> FullLog:
        return self

    def __getitem__(self, name: str) -> FullLog:
        return self

    async def find_one(self, _: object, fields: object, sort: list[tuple[str, int]]) -> dict[str, Any]:
        return {"ts": Timestamp(10**9 + (int(3600 * self.hours) if sort[0][1] < 0 else 0), 1)}

    async def command(self, *_: str) -> dict[str, int]:
        return {"size": 100, "maxSize": 100}


@pytest.mark.parametrize(("hours", "level"), [(0.5, WARNING), (5, NOTE), (50, OK)])
def test_full_log_should_reach_back_a_day(hours, level):
    async def look() -> list[Finding]:
        return [each async for each in doctor._Doctor(FullLog(hours), Settings(), ())._log()]

    [found] = asyncio.run(look())
    assert found.level is level
    assert f"{hours:.1f} h" in found.says


def test_machine_is_told_of_too_few_waiting_clients(tmp_path: Path):
    somaxconn = tmp_path / "somaxconn"
    for number, level in ((128, NOTE), (8192, OK)):
        somaxconn.write_text(f"{number}\n")
        files, waiting = host.examine(somaxconn)
        assert files.level in (OK, WARNING)
        assert waiting.level is level
    assert len(host.examine(tmp_path / "none")) == 1
