"""The proof: two tenants share a collection, and no byte that one is sent tells of the other's documents."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pymongo
import pytest
from bson import json_util
from pymongo.write_concern import WriteConcern

from tests.support.processes import ServerProcess
from tests.support.shared_collection import OWNERS, SharedCollection
from tests.support.tenant import Tenant

CONFIGURATION = """
history_max_bytes = 20000
heartbeat_seconds = 0.2
live_linger_seconds = 1

[access]
algorithms = ["HS256"]
key_file = "jwt.key"

[streams.mine]
namespace = "tenants.notes"
filter = { owner = "$claims.sub" }
"""

LIVE = "/stream/mine?mode=live&types=ejson"
CHANGES = "/stream/mine?format=envelope&before=1&types=ejson"
PLAIN = "/stream/mine?types=ejson&progress=1"
WINDOW = "/stream/mine?mode=live&types=ejson&sort=%7B%22note%22:1%7D&limit=3"
COUNT = "/stream/mine?mode=count"
BUNDLE = json.dumps(
    {
        "subscriptions": {
            "all": {"stream": "mine", "mode": "live", "types": "ejson"},
            "number": {"stream": "mine", "mode": "count"},
        }
    }
).encode()
GARBAGE = ["t1.1", "t4294967295.1", "t1795328801.7-1f3a5c7e9b2d4f60", "x", "82" + "0" * 16 + "00"]


@pytest.fixture
def notes(sandbox) -> Iterator[Any]:
    with pymongo.MongoClient[Any](sandbox.uri) as client:
        client.drop_database("tenants")
        yield client.get_database("tenants", write_concern=WriteConcern("majority")).notes
        client.drop_database("tenants")


def clients(server: ServerProcess, token: str, chance: random.Random) -> dict[str, Tenant]:
    """One of each kind, and some that forge their positions."""

    def make(path: str, **options: Any) -> Tenant:
        return Tenant(server.port, token, path, random.Random(chance.random()), **options)

    return {
        "live": make(LIVE),
        "live, compressed": make(LIVE, compressed=True),
        "changes": make(CHANGES),
        "plain": make(PLAIN, compressed=True),
        "window": make(WINDOW),
        "count": make(COUNT),
        "bundle": make("/stream", body=BUNDLE),
        "live, forging": make(LIVE, forges=True),
        "changes, forging": make(CHANGES, forges=True),
        "bundle, forging": make("/stream", body=BUNDLE, forges=True),
    }


def test_neither_tenant_is_told_anything_of_the_other(start_guarded, notes, mint: Callable[..., str]):
    seed = int(os.environ.get("SEED", 0)) or random.randrange(10**6)
    print(f"seed {seed}: repeat it with SEED={seed}")
    chance = random.Random(seed)
    shared = SharedCollection(notes.database.client, notes, chance)
    shared.create()
    server = start_guarded(CONFIGURATION)

    async def scenario() -> None:
        members = {
            owner: clients(server, mint(sub=owner, seconds=600), random.Random(chance.random()))
            for owner in OWNERS
        }
        positions: list[str] = list(GARBAGE)
        everyone = [member for owner in OWNERS for member in members[owner].values()]
        tasks = [asyncio.create_task(member.run(positions)) for member in everyone]
        try:
            # A client with a forged position in the future may wait for it.
            honest = [member for member in everyone if not member.forges]
            while shared.writes < 250 or any(member.connects < 3 for member in honest):
                assert shared.writes < 5000, [member.connects for member in everyone]
                await asyncio.to_thread(shared.write)
                for owner in OWNERS:
                    positions += [member.position for member in members[owner].values()][-3:]
                assert not any(task.done() for task in tasks), [task for task in tasks if task.done()]
            for owner in OWNERS:
                await held_is_true(owner, members[owner])
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended
        for owner in OWNERS:
            check_bytes(owner, members[owner])

    async def held_is_true(owner: str, members: dict[str, Tenant]) -> None:
        """Nothing is missing, either: each client holds the tenant's documents."""
        wanted = {
            json.dumps(json.loads(json_util.dumps(id))): json.loads(json_util.dumps(document))
            for id, document in ((one["_id"], one) for one in notes.find({"owner": owner}))
        }
        # A client that forges its position has itself to blame.
        exact = ("live", "live, compressed", "changes", "bundle")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 20
        while loop.time() < deadline:
            wrong = [name for name in exact if plain(members[name].held) != plain(wanted)]
            if members["count"].count != len(wanted):
                wrong.append("count")
            if not wrong:
                return
            await asyncio.sleep(0.05)
        differing = {
            name: {
                id: (wanted.get(id), members[name].held.get(id))
                for id in wanted.keys() | members[name].held.keys()
                if wanted.get(id) != members[name].held.get(id)
            }
            for name in wrong
        }
        pytest.fail(f"seed {seed}, by client wanted and held: {differing}; {members['count'].count}")

    def check_bytes(owner: str, members: dict[str, Tenant]) -> None:
        foreign = shared.foreign_words(owner)
        own = {word for word, owners in shared.known.items() if owner in owners}
        assert len(foreign) > 50
        assert len(own) > 50
        for name, member in members.items():
            received = bytes(member.bytes).decode()
            assert [word for word in foreign if word in received] == [], name
            if name != "count" and not member.forges:
                assert any(word in received for word in own), name

    asyncio.run(scenario())
    assert not [line for line in server.log if "Traceback" in line or " ERROR " in line]


def plain(held: dict[str, Any]) -> dict[str, Any]:
    """The documents by their `_id`, whatever way extended JSON writes a number."""
    return {id: json.loads(json.dumps(document)) for id, document in held.items()}
