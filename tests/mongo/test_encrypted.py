"""MongoDB over TLS: changes, snapshots and replays, with and without a certificate of the server's own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import closing

import pytest

from tests.support import encrypted_mongod
from tests.support.encrypted_mongod import EncryptedNode
from tests.support.processes import ROOT
from tests.support.raw_client import RawClient

pytestmark = pytest.mark.mongod


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory):
    with encrypted_mongod.running(tmp_path_factory.mktemp("encrypted"), wants_certificate=False) as node:
        yield node


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    with encrypted_mongod.running(tmp_path_factory.mktemp("strict"), wants_certificate=True) as node:
        yield node


def refused(uri: str) -> str:
    """What the server says of a MongoDB that it cannot use."""
    command = [sys.executable, str(ROOT / "server.py"), "--mongo", uri, "--collection", "orders"]
    ended = subprocess.run([*command, "--port", "0"], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    return ended.stderr


async def follow(port: int, node: EncryptedNode) -> None:
    """Changes, a resumed client, and live queries, with documents larger than a record of TLS."""
    pad = os.urandom(10_000).hex()
    with node.client() as mongo:
        orders = mongo.shop.orders
        orders.insert_many([{"_id": number, "pad": pad} for number in range(30)])
        with closing(await (await RawClient(port).connect()).opened()) as changes:
            orders.insert_one({"_id": "a", "pad": pad})
            while json.loads((first := await changes.next()).data)["_id"] != "a":
                pass
            assert json.loads(first.data) == {"_id": "a", "pad": pad}
        orders.insert_one({"_id": "b"})
        with closing(await RawClient(port, last_id=first.id).connect()) as again:
            assert json.loads((await again.next()).data) == {"_id": "b"}
        for _ in range(3):
            # Each takes one of the connections for snapshots, the later ones again.
            client = await RawClient(port, "/stream/orders?mode=live").connect()
            with closing(await client.opened()) as live:
                found: list[object] = []
                while (event := await live.next()).event != "live":
                    found += [document["_id"] for document in json.loads(event.data)["docs"]]
                assert sorted(found, key=str) == sorted([*range(30), "a", "b"], key=str)
        orders.delete_many({})


@pytest.mark.parametrize("history", ["memory", "log"])
def test_changes_and_snapshots_come_over_tls(history, encrypted, start_server):
    uri = encrypted.uri(f"tls=true&tlsCAFile={encrypted.authority.path}")
    server = start_server(
        "--mongo", uri, "--collection", "orders", *(("--history-max-bytes", "0") if history == "log" else ())
    )
    asyncio.run(follow(server.port, encrypted))


def test_certificate_of_the_servers_own_is_shown_on_every_connection(strict, start_server):
    server = start_server("--mongo", strict.uri(strict.tls), "--collection", "orders")
    asyncio.run(follow(server.port, strict))


def test_mongodb_that_is_not_trusted_or_wants_more_is_an_error_that_says_so(encrypted, strict):
    hint = "if it wants TLS, add tls=true"
    for uri, words in (
        (encrypted.uri("tls=true"), "certificate verify failed"),
        (encrypted.uri("tls=false"), hint),
        (strict.uri(f"tls=true&tlsCAFile={strict.authority.path}"), hint),
        (strict.uri("tls=true&tlsCAFile=/none.pem"), "the MongoDB URI has an invalid option: tlsCAFile"),
    ):
        assert words in refused(uri + "&serverSelectionTimeoutMS=1000")
