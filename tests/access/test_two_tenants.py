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
# The other kinds of events in a bundle.
BUNDLE_OF_CHANGES = json.dumps(
    {
        "subscriptions": {
            "changes": {"stream": "mine", "format": "envelope", "before": 1, "types": "ejson"},
            "window": {"stream": "mine", "mode": "live", "types": "ejson", "sort": {"note": 1}, "limit": 3},
            "paced": {"stream": "mine", "mode": "live", "types": "ejson", "every": 100},
        }
    }
).encode()
EXACT = ("live", "live, compressed", "changes", "bundle", "bundle, compressed")
"""The clients that hold all documents of their tenant."""
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
        "bundle, compressed": make("/stream", body=BUNDLE, compressed=True),
        "bundle of changes": make("/stream", body=BUNDLE_OF_CHANGES),
        "live, forging": make(LIVE, forges=True),
        "changes, forging": make(CHANGES, forges=True),
        "bundle, forging": make("/stream", body=BUNDLE, forges=True),
        "bundle of changes, forging": make("/stream", body=BUNDLE_OF_CHANGES, forges=True),
    }


def test_neither_tenant_is_told_anything_of_the_other(start_guarded, notes, mint: Callable[..., str]):
    seed = int(os.environ.get("SEED", 0)) or random.randrange(10**6)
    print(f"seed {seed}: repeat it with SEED={seed}")
    chance = random.Random(seed)
    shared = SharedCollection(notes.database.client, notes, chance)
    shared.create()
    server = start_guarded(CONFIGURATION)
    members = {
        owner: clients(server, mint(sub=owner, seconds=600), random.Random(chance.random()))
        for owner in OWNERS
    }
    asyncio.run(write_and_cut(shared, members, notes))
    for owner in OWNERS:
        check_bytes(owner, members[owner], shared)
    assert not [line for line in server.log if "Traceback" in line or " ERROR " in line]


async def write_and_cut(shared: SharedCollection, members: dict[str, dict[str, Tenant]], notes: Any) -> None:
    """Write while all clients follow and are cut off, until each honest one has come back."""
    positions: list[str] = list(GARBAGE)
    everyone = [member for owner in OWNERS for member in members[owner].values()]
    # A client with a forged position in the future may wait for it.
    honest = [member for member in everyone if not member.forges]
    tasks = [asyncio.create_task(member.run(positions)) for member in everyone]
    try:
        while shared.writes < 250 or any(member.connects < 3 for member in honest):
            assert shared.writes < 5000, [member.connects for member in everyone]
            await asyncio.to_thread(shared.write)
            for owner in OWNERS:
                positions += [member.position for member in members[owner].values()][-3:]
            assert not any(task.done() for task in tasks), [task for task in tasks if task.done()]
        for owner in OWNERS:
            await until_held(members[owner], notes.find({"owner": owner}))
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended


async def until_held(members: dict[str, Tenant], found: Any) -> None:
    """Nothing is missing, either: each client that does not forge holds the tenant's documents."""
    documents = [json.loads(json_util.dumps(document)) for document in found]
    wanted = {json.dumps(document["_id"]): document for document in documents}
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 20
    wrong = ["all"]
    while wrong:
        wrong = [name for name in EXACT if members[name].held != wanted]
        if members["count"].count != len(wanted):
            wrong.append("count")
        if loop.time() > deadline:
            held = {name: (members[name].held, members[name].count) for name in wrong}
            pytest.fail(f"not {wanted}, by client: {held}")
        await asyncio.sleep(0.05)


def check_bytes(owner: str, members: dict[str, Tenant], shared: SharedCollection) -> None:
    """No word of the other is in what was received, nor in a resume token, which is hexadecimal."""
    foreign = shared.foreign_words(owner)
    own = {word for word, owners in shared.known.items() if owner in owners}
    assert len(foreign) > 50
    assert len(own) > 50
    for name, member in members.items():
        received = bytes(member.bytes).decode()
        lower = received.lower()
        # A word is in lower case, and may be the hexadecimal text of an ObjectId.
        assert [word for word in foreign if word in lower or word.encode().hex() in lower] == [], name
        assert ('"content-encoding": "gzip"' in lower) == member.compressed, name
        if name != "count" and not member.forges:
            assert any(word in received for word in own), name
