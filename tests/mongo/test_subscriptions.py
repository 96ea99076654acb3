"""What clients ask for, over HTTP, on a real replica set: they hear that, and nothing else."""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.parse import urlencode
from uuid import UUID

import bson
import pymongo
import pytest
from bson import Binary, Decimal128, Int64, ObjectId, Timestamp, json_util
from bson.codec_options import CodecOptions
from pymongo import WriteConcern

from brook.changes import resume_token
from brook.delivery.history import History
from brook.delivery.replay import Replayer
from brook.delivery.subscriber import Subscriber
from brook.delivery.subscribers import SubscriberList
from brook.event import Batch, Position
from brook.namespaces import Namespaces
from brook.parameters import subscription
from brook.settings import Settings
from sources.demo import DemoSource
from sources.sandbox import Sandbox
from tests.support.fakes import FakeConnection
from tests.support.processes import ServerProcess
from tests.support.raw_client import RawClient, Received

# What one batch of the live tail holds at most, were it not for transactions.
MORE_THAN_A_BATCH = 2500

# Documents that only say that everything before them was heard.
LAST = "the last of them: "
NUMBERS = iter(range(10**9))

CODEC = CodecOptions(uuid_representation=bson.binary.UuidRepresentation.STANDARD, tz_aware=True)

OPTIONS = (
    "--database", "subs",
    "--collection=creatures", "--collection=plants", "--collection=later", "--collection=fs.files",
    "--namespace", "subs_shop.*", "--namespace", "subs_farm.fields.green", "--heartbeat-seconds", "0.1",
)  # fmt: skip


@pytest.fixture(scope="module")
def waters(sandbox) -> Iterator[pymongo.database.Database]:
    """The database that this module's servers watch. Its creatures keep pre-images, its plants do not."""
    with pymongo.MongoClient(sandbox.uri) as client:
        database = client.get_database("subs", CODEC, write_concern=WriteConcern("majority"))
        database.create_collection("creatures", changeStreamPreAndPostImages={"enabled": True})
        database.create_collection("plants")
        yield database
        for name in ("subs", "subs_shop", "subs_farm", "subs_elsewhere"):
            client.drop_database(name)


def module_server(sandbox: Sandbox, *options: str) -> Iterator[ServerProcess]:
    server = ServerProcess("--mongo", sandbox.uri, *OPTIONS, *options)
    try:
        yield server.start()
    finally:
        server.kill()


@pytest.fixture(scope="module")
def live(sandbox, waters):
    """A server that remembers everything that these tests write."""
    yield from module_server(sandbox)


@pytest.fixture(scope="module")
def from_log(sandbox, waters):
    """A server that remembers nothing, and has to replay the log."""
    yield from module_server(sandbox, "--history-max-bytes", "0", "--warm-up-seconds", "0")


@pytest.fixture(params=["live", "from_log"])
def either(request) -> ServerProcess:
    """Each of the two."""
    return request.getfixturevalue(request.param)


def stream(name: str = "", **parameters: object) -> str:
    """The path of a stream. A dictionary becomes JSON, a list a parameter that comes several times."""
    pairs = [
        (key, json.dumps(item) if isinstance(item, dict) else item)
        for key, value in parameters.items()
        for item in (value if isinstance(value, list) else [value])
    ]
    return "/stream" + (f"/{name}" if name else "") + ("?" + urlencode(pairs) if pairs else "")


async def opened(server: ServerProcess, path: str, last_id: str = "") -> RawClient:
    """A client that is attached, whether its opening is a retry or, without checkpoints, a comment."""
    client = await RawClient(server.port, path, last_id=last_id).connect()
    if client.status != 200:
        problem = await client.reader.read(2000)
        client.close()
        raise AssertionError(f"{path} is refused: {problem!r}")
    async with asyncio.timeout(20):
        while client.parser.retry is None and not client.parser.comments:
            assert await client.read()
    return client


def now(waters) -> Position:
    """A place in the log after everything that was written so far."""
    time: Timestamp = waters.client.admin.command("ping")["operationTime"]
    return resume_token.checkpoint((time.time, time.inc))


async def settle(waters, clients: list[RawClient]) -> None:
    """Read on until each client was offered all that was written so far.

    A checkpoint promises that, and one more document makes the next checkpoint come at once. Those who
    hear of it need no checkpoint.
    """
    place = now(waters)
    last = f"{LAST}{next(NUMBERS)}"
    waters.client.subs_shop.last.insert_one({"_id": last})
    for client in clients:
        async with asyncio.timeout(30):
            while not (_promised(client, place) or any(last in event.data for event in client.events)):
                assert await client.read()
        client.events = [event for event in client.events if LAST not in event.data]


def _promised(client: RawClient, place: Position) -> bool:
    checkpoints = [block[0] for block in client.parser.blocks if len(block) == 1 and block[0][:5] == "id: t"]
    return bool(checkpoints) and resume_token.position(checkpoints[-1].removeprefix("id: ")) >= place


async def hear_all(
    server: ServerProcess,
    waters,
    paths: list[str],
    write: Callable[[], object],
    last_ids: list[str] | None = None,
) -> list[RawClient]:
    """Clients that have heard what there was to hear while something was written, and have left."""
    with ExitStack() as stack:
        clients = []
        for path, last_id in zip(paths, last_ids or [""] * len(paths), strict=True):
            clients.append(await opened(server, path, last_id))
            stack.callback(clients[-1].close)
        if not last_ids:
            # A server that has just begun to hear of what was before would pass it on now.
            await settle(waters, clients)
            for client in clients:
                client.events.clear()
        write()
        await settle(waters, clients)
    return clients


def hear(server, waters, paths: list[str], write: Callable[[], object]) -> list[list[Received]]:
    """What clients of these paths hear while something is written: all of it, and no more."""
    return [client.events for client in asyncio.run(hear_all(server, waters, paths, write))]


def ids(events: list[Received]) -> list[object]:
    """The `_id`s that plain events are about, deletes as a pair."""
    found: list[object] = []
    for event in events:
        id = json.loads(event.data)["_id"]
        found.append(id if event.event == "message" else (event.event, id))
    return found


def told(events: list[Received]) -> list[tuple[str, object]]:
    """Operation and id of events in envelopes."""
    return [(event.event, json.loads(event.data)["id"]) for event in events]


async def refused(server: ServerProcess, path: str) -> tuple[int, dict]:
    """The status and the problem document that a request gets."""
    client = await RawClient(server.port, path).connect()
    try:
        assert client.headers["content-type"] == "application/problem+json", (path, client.headers)
        return client.status, json.loads(
            await client.reader.readexactly(int(client.headers["content-length"]))
        )
    finally:
        client.close()


# -- which collections -----------------------------------------------------------------------------


def test_each_stream_is_of_the_collection_that_it_is_named_after(live, waters):
    shop, farm = waters.client.subs_shop, waters.client.subs_farm

    def write() -> None:
        waters.creatures.insert_one({"_id": "name-1"})
        waters.plants.insert_one({"_id": "name-2"})
        waters["fs.files"].insert_one({"_id": "name-3"})
        shop.orders.insert_one({"_id": "name-4"})
        shop["orders.old"].insert_one({"_id": "name-5"})
        farm["fields.green"].insert_one({"_id": "name-6"})
        farm.fields.insert_one({"_id": "name-7"})
        waters.client.subs_elsewhere.creatures.insert_one({"_id": "name-8"})
        waters.rocks.insert_one({"_id": "name-9"})

    expected = {
        "creatures": ["name-1"],
        "subs.creatures": ["name-1"],
        "plants": ["name-2"],
        "fs.files": ["name-3"],
        "subs.fs.files": ["name-3"],
        "subs_shop.orders": ["name-4"],
        "subs_shop.orders.old": ["name-5"],
        "subs_farm.fields.green": ["name-6"],
        "": [f"name-{number}" for number in range(1, 7)],
    }
    heard = hear(live, waters, [stream(name) for name in expected], write)
    assert dict(zip(expected, map(ids, heard), strict=True)) == expected


@pytest.mark.parametrize(
    "name",
    [
        "rocks", "creature", "creatures2", "subs.rocks", "subs", "subs.", "subs_shop", "subs_shop.",
        ".creatures", "subs_farm.fields", "subs_farm.fields.green.grass", "fields.green", "fs", "fs.chunks",
        "subs_elsewhere.creatures", "subs_shop.system.users", "system.users", "subs.system.views",
        "local.oplog.rs", "admin.system.users", "config.transactions", "%00", "a%2Fb", "..",
        "%20creatures", "creatures%20", "CREATURES", "$cmd", "creatures%00", "subs_shop.*", "*", "subs.*",
    ],
)  # fmt: skip
def test_what_the_operator_did_not_name_is_unknown_whether_it_exists_or_not(live, waters, name):
    for path in (f"/stream/{name}", f"/stream?ns={name}", f"/stream?ns=creatures&ns={name}"):
        status, problem = asyncio.run(refused(live, path))
        assert (status, problem["code"]) == (404, "unknown-stream"), path
        assert (problem["status"], problem["type"]) == (404, "about:blank")


def test_several_collections_and_databases_on_one_connection(live, waters):
    shop = waters.client.subs_shop

    def write() -> None:
        waters.creatures.insert_one({"_id": "ns-1"})
        waters.plants.insert_one({"_id": "ns-2"})
        shop.orders.insert_one({"_id": "ns-3"})
        shop.bills.insert_one({"_id": "ns-4"})
        waters.client.subs_farm["fields.green"].insert_one({"_id": "ns-5"})
        waters["fs.files"].insert_one({"_id": "ns-6"})

    names = ["creatures", "subs.creatures", "subs_shop.orders", "subs_farm.fields.green"]
    [several, one] = hear(live, waters, [stream(ns=names), stream(ns="plants")], write)
    assert [
        (event.event, json.loads(event.data)["ns"], json.loads(event.data)["id"]) for event in several
    ] == [
        ("insert", "subs.creatures", "ns-1"),
        ("insert", "subs_shop.orders", "ns-3"),
        ("insert", "subs_farm.fields.green", "ns-5"),
    ]
    assert told(one) == [("insert", "ns-2")]


def test_collection_that_is_created_later_is_heard(live, waters):
    def write() -> None:
        waters.later.insert_one({"_id": "later-1"})
        waters.client.subs_shop.opened_later.insert_one({"_id": "later-2"})

    names = ["later", "subs_shop.opened_later"]
    by_ns, by_name = hear(live, waters, [stream(ns=names), stream("subs_shop.opened_later")], write)
    assert told(by_ns) == [("insert", "later-1"), ("insert", "later-2")]
    assert ids(by_name) == ["later-2"]


def test_whatever_clients_ask_for_there_is_one_cursor(sandbox, waters, start_server):
    def cursors() -> set[int]:
        operations = waters.client.admin.aggregate([{"$currentOp": {"allUsers": True, "idleCursors": True}}])
        found = set()
        for operation in operations:
            cursor = operation.get("cursor", {})
            pipeline = cursor.get("originatingCommand", {}).get("pipeline") or [{}]
            if "$changeStream" in pipeline[0]:
                found.add(cursor["cursorId"])
        return found

    before = cursors()
    server = start_server("--mongo", sandbox.uri, *OPTIONS)
    paths = [
        stream(), stream("creatures"), stream("subs_shop.orders"), stream(ns=["plants", "subs_shop.bills"]),
        stream("creatures", filter={"size": 3}), stream(id=["1", "2"]), stream(fields="a,b"),
        stream(ops="delete"), stream(format="envelope", before="1"), stream(types="ejson"),
        stream(checkpoints="0"),
    ]  # fmt: skip

    async def scenario() -> None:
        with ExitStack() as stack:
            clients = [await opened(server, path) for path in paths]
            for client in clients:
                stack.callback(client.close)
            waters.creatures.insert_one({"_id": "cursor"})
            for client in (clients[0], clients[1], clients[-1]):
                while (await client.next()).data != '{"_id":"cursor"}':
                    pass
            assert len(cursors() - before) == 1

    asyncio.run(scenario())


# -- which documents -------------------------------------------------------------------------------


def test_filter_is_about_the_document_after_the_change(live, waters):
    def write() -> None:
        many = [{"_id": f"filter-{n}", "size": n, "type": "newt" if n % 2 else "otter"} for n in range(6)]
        waters.creatures.insert_many(many)
        waters.creatures.update_one({"_id": "filter-0"}, {"$set": {"size": 5}})  # comes in
        waters.creatures.update_one({"_id": "filter-5"}, {"$set": {"size": 1}})  # goes out
        waters.creatures.replace_one({"_id": "filter-4"}, {"type": "newt", "size": 9})
        waters.creatures.update_one({"_id": "filter-1"}, {"$set": {"tags": ["wet", {"pond": 3}]}})

    paths = [
        stream("creatures", filter={"size": {"$gte": 4}}),
        stream("creatures", filter={"type": "newt", "size": {"$lt": 4}}),
        stream("creatures", filter={"$or": [{"size": 2}, {"tags.pond": {"$in": [3, 4]}}]}),
        stream("creatures", filter={"tags": "wet"}),
        stream("creatures", filter={"size": 5}, ops="update"),
        stream("creatures", filter={"size": 77}),
    ]
    large, small, either, tagged, updated, nothing = map(ids, hear(live, waters, paths, write))
    assert large == ["filter-4", "filter-5", "filter-0", "filter-4"]
    assert small == ["filter-1", "filter-3", "filter-5", "filter-1"]
    assert either == ["filter-2", "filter-1"]
    assert tagged == ["filter-1"]
    assert updated == ["filter-0"]
    assert nothing == []


def test_id_of_whatever_type_it_is(live, waters):
    oid, uuid = ObjectId(), UUID("00112233-4455-6677-8899-aabbccddeeff")
    large = 1234567890123456789
    every = [
        oid,
        str(oid),
        "text",
        17,
        "17",
        Int64(2**40),
        large,
        18.0,
        Decimal128("19"),
        uuid,
        str(uuid),
        -3,
        "",
        "a,b",
    ]
    paths = {
        stream(id=str(oid)): [str(oid)],
        stream(id=str(oid).upper()): [str(oid)],
        stream(id="text"): ["text"],
        stream(id="17"): [17, "17"],
        stream(id=str(2**40)): [2**40],
        stream(id=str(large)): [str(large)],
        stream(id="18"): [18.0],
        stream(id="19"): ["19"],
        stream(id=str(uuid)): [str(uuid), str(uuid)],
        stream(id="-3"): [-3],
        stream(id=""): [""],
        stream(id="a,b"): ["a,b"],
        stream(id=["text", "-3", "nobody"]): ["text", -3],
        stream(id="nobody"): [],
    }
    heard = hear(live, waters, list(paths), lambda: waters.plants.insert_many({"_id": id} for id in every))
    assert {path: ids(events) for path, events in zip(paths, heard, strict=True)} == paths


def test_operations_are_those_that_were_asked_for(live, waters):
    def write() -> None:
        waters.creatures.insert_one({"_id": "ops"})
        waters.creatures.update_one({"_id": "ops"}, {"$set": {"a": 1}})
        waters.creatures.replace_one({"_id": "ops"}, {"b": 1})
        waters.creatures.delete_one({"_id": "ops"})

    every = ["insert", "update", "replace", "delete"]
    wishes = [*every, "delete,insert", "update,replace", ",".join(every), "insert,insert"]
    heard = hear(live, waters, [stream("creatures", ops=ops, format="envelope") for ops in wishes], write)
    assert [[event.event for event in events] for events in heard] == [
        [operation for operation in every if operation in wish.split(",")] for wish in wishes
    ]


# -- which fields ----------------------------------------------------------------------------------

SECRET = "nobody-may-see-this"


def test_fields_are_those_that_were_asked_for_and_the_id(live, waters):
    document = {
        "_id": "fields", "type": "newt", "size": 3, "place": {"pond": 1, "depth": 2},
        "legs": [{"side": "left", "length": 1}, 5, {"side": "right", "length": 2}],
    }  # fmt: skip
    expected = {
        "type": {"_id": "fields", "type": "newt"},
        "size,type": {"_id": "fields", "type": "newt", "size": 3},
        "_id": {"_id": "fields"},
        "-legs,-place": {"_id": "fields", "type": "newt", "size": 3},
        "place.pond": {"_id": "fields", "place": {"pond": 1}},
        "legs.side": {"_id": "fields", "legs": [{"side": "left"}, {"side": "right"}]},
        "-legs.length,-place.depth,-size": {
            "_id": "fields", "type": "newt", "place": {"pond": 1},
            "legs": [{"side": "left"}, 5, {"side": "right"}],
        },
        "nothing": {"_id": "fields"},
        "-nothing": document,
    }  # fmt: skip
    paths = [stream("creatures", fields=fields) for fields in expected]
    heard = hear(live, waters, paths, lambda: waters.creatures.insert_one(document))
    got = {fields: [event.data for event in events] for fields, events in zip(expected, heard, strict=True)}
    # As text: the order of the keys is the document's.
    assert got == {fields: [json.dumps(part, separators=(",", ":"))] for fields, part in expected.items()}


@pytest.mark.parametrize(
    "fields",
    [
        "type",
        "legs.side",
        "place.pond",
        "-secret,-legs.secret,-place.secret,-list.secret,-map.0.secret",
        "map.1",
    ],
)
def test_hidden_field_leaks_neither_by_what_changed_nor_by_what_was_before(either, waters, fields):
    def write() -> None:
        waters.creatures.insert_one(
            {
                "_id": "hidden", "type": "newt", "secret": SECRET,
                "legs": [{"side": "left", "secret": SECRET}, {"secret": SECRET}],
                "place": {"pond": 1, "secret": SECRET}, "list": [{"secret": SECRET}] * 30,
                "map": {"0": {"secret": SECRET}, "1": 1},
            }
        )  # fmt: skip
        find = {"_id": "hidden"}
        waters.creatures.update_one(find, {"$set": {"secret": SECRET + "2", "type": "otter"}})
        waters.creatures.update_one(find, {"$set": {"legs.0.secret": SECRET, "legs.1.side": "right"}})
        waters.creatures.update_one(find, {"$set": {"legs.1.secret": SECRET + "2"}})
        waters.creatures.update_one(find, {"$set": {"legs.1": {"side": "l", "secret": SECRET}}})
        waters.creatures.update_one(find, {"$push": {"legs": {"side": "r", "secret": SECRET}}})
        waters.creatures.update_one(find, {"$set": {"place": {"pond": 2, "secret": SECRET}}})
        waters.creatures.update_one(find, {"$set": {"place.secret": {"deep": SECRET}}})
        waters.creatures.update_one(find, {"$set": {"map.0.secret": SECRET + "2"}})
        waters.creatures.update_one(find, {"$set": {"map.0": {"secret": SECRET + "3"}}})
        waters.creatures.update_one(find, [{"$set": {"list": {"$slice": ["$list", 1]}}}])
        waters.creatures.update_one(find, {"$unset": {"secret": 1, "place.secret": 1, "legs.0.secret": 1}})
        waters.creatures.replace_one(find, {"secret": SECRET, "type": "heron"})
        waters.creatures.delete_one(find)

    wishes = [
        stream("creatures", format="envelope", before="1", fields=fields, types=t) for t in ("json", "ejson")
    ]
    for events in hear(either, waters, wishes, write):
        assert [event.event for event in events] == ["insert", *["update"] * 11, "replace", "delete"]
        for event in events:
            assert SECRET not in event.data
            changed = json.loads(event.data).get("changed", {})
            hidden = [path for path in changed.get("unset", []) if "secret" in path]
            assert hidden == [], "even the name of a hidden field says something"


def test_scalar_in_the_place_of_an_object_is_not_told_to_who_asked_for_something_inside(live, waters):
    """The document that is sent has no such field; what changed must not have it either."""

    def write() -> None:
        waters.creatures.insert_one({"_id": "scalar", "place": {"pond": 1}, "legs": [{"side": "left"}]})
        waters.creatures.update_one({"_id": "scalar"}, {"$set": {"place": SECRET, "legs.0": SECRET}})

    [events] = hear(
        live, waters, [stream("creatures", format="envelope", fields="place.pond,legs.side")], write
    )
    inserted, updated = (json.loads(event.data) for event in events)
    assert inserted["doc"] == {"_id": "scalar", "place": {"pond": 1}, "legs": [{"side": "left"}]}
    assert updated["doc"] == {"_id": "scalar", "legs": []}
    assert SECRET not in events[1].data


# -- envelopes -------------------------------------------------------------------------------------


# So many that MongoDB tells of the cut, and not of what is left.
TAGS = [f"a tag with number {n}" for n in range(20)]


def change_everything(collection, id: str) -> None:
    """Every operation once, and an update whose document is gone when the server looks for it."""
    collection.insert_one({"_id": id, "type": "newt", "mood": "calm", "tags": list(TAGS)})
    collection.update_one(
        {"_id": id}, [{"$set": {"tags": {"$slice": ["$tags", 1]}, "size": 3}}, {"$unset": "mood"}]
    )
    collection.replace_one({"_id": id}, {"type": "otter"})
    with collection.database.client.start_session() as session, session.start_transaction():
        collection.update_one({"_id": id}, {"$set": {"mood": "gone"}}, session=session)
        collection.delete_one({"_id": id}, session=session)


def without_time(events: list[Received]) -> list[tuple[str, str]]:
    """Events with their time, which is different every time, cut out of the text, once it is found good."""
    found = []
    for event in events:
        text, mark, time = event.data.rpartition(',"time":')
        assert mark
        moment = datetime.datetime.fromisoformat(json.loads(time.removesuffix("}")))
        assert abs(moment - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(minutes=10)
        assert len(time) == len('"2026-11-22T06:10:00.123Z"}')
        found.append((event.event, text + "}"))
    return found


def test_envelope_of_every_operation(live, waters):
    wish = stream("plants", format="envelope")
    [events] = hear(live, waters, [wish], lambda: change_everything(waters.plants, "envelope"))
    head = '"ns":"subs.plants","id":"envelope"'
    changed = '"changed":{"set":{"size":3},"unset":["mood"],"truncated":[{"field":"tags","newSize":1}]}'
    gone = '"gone":true,"changed":{"set":{"mood":"gone"},"unset":[],"truncated":[]}'
    tags = json.dumps(TAGS, separators=(",", ":"))
    # An update carries the document as it is when it is looked up; here it may be gone, or replaced, by then.
    [inserted, updated, *rest] = without_time(events)
    assert inserted == (
        "insert",
        f'{{"op":"insert",{head},"doc":{{"_id":"envelope","type":"newt","mood":"calm","tags":{tags}}}}}',
    )
    assert updated[0] == "update"
    assert updated[1].startswith(f'{{"op":"update",{head},"doc":')
    assert updated[1].endswith(f",{changed}}}")
    assert rest == [
        ("replace", f'{{"op":"replace",{head},"doc":{{"_id":"envelope","type":"otter"}}}}'),
        ("update", f'{{"op":"update",{head},"doc":null,{gone}}}'),
        ("delete", f'{{"op":"delete",{head},"doc":null}}'),
    ]


def test_before_is_the_document_as_it_was_where_the_collection_keeps_it(either, waters):
    def write() -> None:
        change_everything(waters.creatures, "before")
        change_everything(waters.plants, "before")

    paths = [stream(name, format="envelope", before="1") for name in ("creatures", "plants")]
    paths.append(stream("creatures", format="envelope", before="1", fields="type"))
    paths.append(stream("creatures", format="envelope"))
    kept, lost, part, unasked = (
        [json.loads(event.data) for event in events] for events in hear(either, waters, paths, write)
    )
    first = {"_id": "before", "type": "newt", "mood": "calm", "tags": list(TAGS)}
    second = {"_id": "before", "type": "newt", "size": 3, "tags": TAGS[:1]}
    third = {"_id": "before", "type": "otter"}
    before = [None, first, second, third, {**third, "mood": "gone"}]
    assert [event["before"] for event in kept] == before
    assert [event["before"] for event in lost] == [None] * 5
    assert [event["before"] for event in part] == [
        None if old is None else {"_id": "before", "type": old["type"]} for old in before
    ]
    assert all("before" not in event for event in unasked)
    assert list(kept[1]) == ["op", "ns", "id", "doc", "changed", "before", "time"]
    assert list(kept[3]) == ["op", "ns", "id", "doc", "gone", "changed", "before", "time"]


def test_extended_json_is_read_back_to_the_document_that_was_written(live, waters):
    document = {
        "_id": ObjectId(), "long": Int64(2**62), "decimal": Decimal128("1.10"), "uuid": UUID(int=7),
        "when": datetime.datetime(2026, 11, 22, 6, 10, tzinfo=datetime.UTC), "bytes": Binary(b"ab", 5),
        "list": [1, 2.5, None, {"at": Timestamp(1, 2)}],
    }  # fmt: skip
    paths = [stream("plants", types="ejson"), stream("plants", types="ejson", format="envelope")]

    def write() -> None:
        waters.plants.insert_one(document)
        waters.plants.delete_one({"_id": document["_id"]})

    options = json_util.JSONOptions(tz_aware=True, uuid_representation=CODEC.uuid_representation)
    plain, envelopes = hear(live, waters, paths, write)
    assert [json_util.loads(event.data, json_options=options) for event in plain] == [
        document, {"_id": document["_id"]}
    ]  # fmt: skip
    inserted, deleted = (json_util.loads(event.data, json_options=options) for event in envelopes)
    assert (inserted["doc"], inserted["id"], deleted["id"]) == (document, document["_id"], document["_id"])
    assert isinstance(inserted["time"], str)


def test_document_that_looks_like_a_reference_is_a_document(either, waters):
    """The driver reads one as a DBRef: nobody's filter, fields or types may stumble over it."""
    whole = {"_id": "ref-1", "$id": 7, "size": 1, "$ref": "creatures"}
    inside = {"_id": "ref-2", "size": 1, "a": {"items": [1], "$ref": "creatures", "$id": 1, "__iter__": 2}}

    def write() -> None:
        for document in (whole, inside):
            waters.creatures.insert_one(document)
            waters.creatures.delete_one({"_id": document["_id"]})

    paths = [
        stream("creatures", filter={"size": 1, "$or": [{"a.items": 1}, {"_id": "ref-1"}]}),
        stream("creatures", fields="size,a.items", ops="insert"),
        stream("creatures", format="envelope", before="1", fields="-size", ops="delete"),
        stream("creatures", types="ejson", ops="insert"),
    ]
    filtered, fewer, before, ejson = hear(either, waters, paths, write)
    assert ids(filtered) == ["ref-1", ("delete", "ref-1"), "ref-2", ("delete", "ref-2")]
    assert list(json.loads(filtered[0].data)) == list(whole), "the order is the document's"
    assert [event.data for event in fewer] == [
        '{"_id":"ref-1","size":1}', '{"_id":"ref-2","size":1,"a":{"items":[1]}}'
    ]  # fmt: skip
    assert [json.loads(event.data)["before"] for event in before] == [
        {name: value for name, value in document.items() if name != "size"} for document in (whole, inside)
    ]
    assert [json.loads(event.data) for event in ejson] == [whole, inside]


# -- deletes ---------------------------------------------------------------------------------------


def test_delete_is_sent_if_the_document_before_it_matched_as_far_as_that_can_be_known(either, waters):
    def write() -> None:
        for collection in (waters.creatures, waters.plants):
            collection.insert_many({"_id": f"delete-{n}", "owner": n} for n in range(3))
            collection.delete_many({"_id": {"$in": ["delete-0", "delete-1"]}})
            # It matched when it was inserted, and no longer when it was deleted.
            collection.update_one({"_id": "delete-2"}, {"$set": {"owner": 7}})
            collection.delete_one({"_id": "delete-2"})
            # The key itself may be a document.
            collection.insert_one({"_id": {"part": 1, "of": "delete"}})
            collection.delete_one({"_id": {"part": 1, "of": "delete"}})

    def deleted(**wish: object) -> list[str]:
        return [stream(name, ops="delete", **wish) for name in ("creatures", "plants")]

    compound = {"of": "delete", "part": 1}
    expected = [
        (deleted(filter={"owner": 1}), ["delete-1"], []),
        (deleted(filter={"owner": 2}), [], []),
        (deleted(filter={"owner": {"$gte": 1}}), ["delete-1", "delete-2"], []),
        (deleted(filter={"owner": {"$exists": False}}), [compound], []),
        (deleted(filter={"_id": "delete-1"}), ["delete-1"], ["delete-1"]),
        (deleted(filter={"_id": {"$gt": "delete-0", "$lt": "delete-9"}}), *[["delete-1", "delete-2"]] * 2),
        (deleted(filter={"_id.part": 1}), [compound], [compound]),
        (deleted(filter={"_id": "delete-1", "owner": 1}), ["delete-1"], []),
        (deleted(filter={"_id": "delete-1", "owner": 2}), [], []),
        (deleted(id="delete-2"), ["delete-2"], ["delete-2"]),
        (deleted(id="delete-1", filter={"owner": 1}), ["delete-1"], []),
        (deleted(), *[["delete-0", "delete-1", "delete-2", compound]] * 2),
    ]
    paths = [path for both, *_ in expected for path in both]
    heard = [
        [json.loads(event.data)["_id"] for event in events] for events in hear(either, waters, paths, write)
    ]
    got = [(both, heard[2 * number], heard[2 * number + 1]) for number, (both, *_) in enumerate(expected)]
    assert got == [tuple(row) for row in expected]


# -- what must never happen ------------------------------------------------------------------------


def test_without_checkpoints_there_is_never_a_block_without_data(live, from_log, waters):
    """Not in the opening, not as a keep-alive, not after a reset, not in a replay."""

    async def scenario() -> None:
        with ExitStack() as stack:
            openings = [
                (live, ""),
                (live, "nonsense"),
                (from_log, ""),
                (from_log, "nonsense"),
                (from_log, now(waters).id),
            ]
            clients = []
            for server, last_id in openings:
                client = await opened(server, stream("later", checkpoints="0"), last_id)
                stack.callback(client.close)
                clients.append(client)
            waters.later.insert_one({"_id": "no checkpoints"})
            for client in clients:
                while "no checkpoints" not in (await client.next()).data:
                    pass
                comments = client.parser.comments
                async with asyncio.timeout(20):
                    while client.parser.comments < comments + 3:
                        assert await client.read()
            waters.later.drop()
            waters.later.insert_one({"_id": "after the drop"})
            for client in clients:
                heard = [(await client.next()).event]
                while heard[-1] != "reset":
                    heard.append((await client.next()).event)
                await client.next()
                assert client.events[-1].data == '{"_id":"after the drop"}'
                async with asyncio.timeout(20):
                    comments = client.parser.comments
                    while client.parser.comments < comments + 2:
                        assert await client.read()
                assert client.raw.startswith(b":\n\n")
                for block in client.parser.blocks:
                    assert block == [":"] or any(row.startswith("data:") for row in block), block

    asyncio.run(scenario())


def test_id_of_an_event_that_was_not_sent_appears_nowhere(either, waters):
    """A resume token has the `_id` of its document in it."""

    def write() -> None:
        for number in range(30):
            waters.creatures.insert_one({"_id": f"unsent-{either.port}-{number}", "mine": number % 3 == 0})
            if number % 10 == 0:
                waters.plants.insert_one({"_id": f"unsent-plant-{either.port}-{number}"})
        waters.plants.drop()
        waters.create_collection("plants")

    async def scenario() -> tuple[list[RawClient], list[RawClient]]:
        listening = await hear_all(
            either, waters, [stream("creatures", filter={"mine": True}), stream()], write
        )
        mine, everything = listening
        start = everything.events[0].id
        again = await hear_all(
            either, waters, [stream("creatures", filter={"mine": True}, since=start)], lambda: None, [start]
        )
        return [mine, *again], everything.events

    for_me, everything = asyncio.run(scenario())
    secret = {
        event.id
        for event in everything
        if event.event == "message" and not json.loads(event.data).get("mine")
    }
    assert len(secret) == 23
    for client in for_me:
        named = {
            row[4:]
            for block in client.parser.blocks
            for row in block
            if row.startswith("id: ") and "-" in row
        }
        assert len(named) >= 9
        if client is not for_me[0]:  # it came with the id of what it now does not ask for
            named -= {everything[0].id}
        assert not named & secret
        assert b"unsent-plant".hex().upper() not in client.raw.decode()
        assert f"unsent-{either.port}-1\0".encode().hex().upper() not in client.raw.decode()


def test_resets_reach_those_whom_they_concern(live, waters):
    shop = waters.client.subs_shop
    shop.create_collection("resets")
    for name in ("target", "renamed", "moved"):
        shop.create_collection(name)

    def write() -> None:
        shop.resets.drop()
        shop.renamed.rename("target", dropTarget=True)
        shop.moved.rename("moved_to")
        waters.client.drop_database("subs_shop")

    paths = {
        stream(): True,
        stream("subs_shop.resets"): True,
        stream("subs_shop.renamed"): True,
        stream("subs_shop.target"): True,
        stream("subs_shop.moved_to"): True,
        stream(ns=["creatures", "subs_shop.resets"]): True,
        stream("subs_shop.resets", filter={"owner": 5}): True,
        stream("subs_shop.resets", filter={"owner": {"$in": []}}): True,
        stream("subs_shop.resets", id="7", ops="delete"): True,
        stream("creatures"): False,
        stream(ns=["creatures", "subs_farm.fields.green"]): False,
        stream("creatures", filter={"owner": 5}): False,
    }
    heard = hear(live, waters, list(paths), write)
    got = {path: [event.event for event in events] for path, events in zip(paths, heard, strict=True)}
    assert {path: "reset" in events for path, events in got.items()} == paths
    facts = {
        path: [(json.loads(event.data)["reason"], json.loads(event.data)["ns"]) for event in events]
        for path, events in zip(paths, heard, strict=True)
    }
    assert facts[stream("subs_shop.resets")] == [
        ("collection-dropped", "subs_shop.resets"), ("database-dropped", "subs_shop")
    ]  # fmt: skip
    assert (
        facts[stream("subs_shop.resets", filter={"owner": {"$in": []}})] == facts[stream("subs_shop.resets")]
    )
    assert ("collection-renamed", "subs_shop.renamed") in facts[stream("subs_shop.renamed")]
    # What it holds was replaced by another collection; and where there was nothing, there is something now.
    # The old name is not for those who did not ask for it.
    assert ("collection-renamed", "subs_shop.target") in facts[stream("subs_shop.target")]
    assert facts[stream("subs_shop.moved_to")][0] == ("collection-renamed", "subs_shop.moved_to")


# -- from the past ---------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["Z", "fraction", "offset", "plus as it is", "lower case"])
def test_since_a_time_replays_from_that_moment(either, waters, spelling):
    waters.plants.insert_one({"_id": f"long ago {spelling} {either.port}"})
    time = now(waters).id

    async def next_second() -> None:
        while (
            resume_token.cluster_time(now(waters).key)[0]
            <= resume_token.cluster_time(resume_token.position(time).key)[0]
        ):
            await asyncio.sleep(0.05)
            waters.rocks.insert_one({})

    asyncio.run(next_second())
    id = f"since {spelling} {either.port}"
    waters.plants.insert_one({"_id": id})
    second = resume_token.cluster_time(now(waters).key)[0]
    moment = datetime.datetime.fromtimestamp(second, datetime.UTC)
    text = {
        "Z": f"{moment:%Y-%m-%dT%H:%M:%S}Z",
        "fraction": f"{moment:%Y-%m-%dT%H:%M:%S}.000Z",
        "offset": f"{moment:%Y-%m-%dT%H:%M:%S}%2B00:00",
        "plus as it is": f"{moment + datetime.timedelta(hours=2):%Y-%m-%dT%H:%M:%S}+02:00",
        "lower case": f"{moment:%Y-%m-%dt%H:%M:%S}z",
    }[spelling]

    async def scenario() -> None:
        client = await opened(either, f"/stream/plants?since={text}")
        try:
            first = await client.next()
            # The second may have turned between the insert and the question.
            assert first.data == f'{{"_id":"{id}"}}', "the place was not where it was asked for"
            waters.plants.insert_one({"_id": f"now {id}"})
            assert (await client.next()).data == f'{{"_id":"now {id}"}}'
        finally:
            client.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("since", ["1999-12-31T23:59:59Z", "t0.0", "t946684799.5"])
def test_since_before_the_log_is_a_reset_also_where_nothing_was_cut_off_the_log(either, waters, since):
    """A replica set that was a standalone before has no log of that time."""

    async def scenario() -> None:
        client = await opened(either, stream("fs.files", since=since))
        try:
            event = await client.next(60)
            assert event.event == "reset"
            assert json.loads(event.data)["reason"] == "history-lost"
            waters["fs.files"].insert_one({"_id": f"after {since} {either.port}"})
            assert json.loads((await client.next(60)).data)["_id"] == f"after {since} {either.port}"
        finally:
            client.close()

    asyncio.run(scenario())


def test_resumed_client_has_the_same_filter_and_gets_neither_gap_nor_repeat(either, waters):
    wishes = [
        stream("creatures", filter={"resume": {"$gte": 0}, "mine": True}),
        stream(ns=["creatures", "plants"], filter={"mine": True}, fields="resume"),
        stream("creatures", filter={"mine": True}, types="ejson", ops="insert"),
        stream(
            "creatures", format="envelope", filter={"resume": {"$in": [0, 3, 6, 9, 12, 15, 18, 21, 24, 27]}}
        ),
    ]
    numbers = iter(range(1000))

    def write(count: int = 20) -> None:
        for number in (next(numbers) for _ in range(count)):
            waters.creatures.insert_one({"resume": number, "mine": number % 3 == 0})
            waters.plants.insert_one({"resume": number})

    async def scenario() -> None:
        whole = await hear_all(either, waters, wishes, write)
        write(10)
        cuts = [
            (first, path, cut) for first, path in zip(whole, wishes, strict=True) for cut in (0, 3, 6, None)
        ]
        places = [
            # A checkpoint is a place as good as any.
            first.parser.last_id if cut is None else first.events[cut].id
            for first, _, cut in cuts
        ]
        again = await hear_all(either, waters, [path for _, path, _ in cuts], lambda: None, places)
        for (first, _, cut), second in zip(cuts, again, strict=True):
            assert len(first.events) == 7
            missed = [] if cut is None else first.events[cut + 1 :]
            assert second.events[: len(missed)] == missed
            assert len(second.events) == len(missed) + 3
            assert len({event.id for event in first.events + second.events}) == 10

    asyncio.run(scenario())


def test_transaction_arrives_in_one_piece_and_in_order(live, waters):
    """However large: a piece of the body is one write of the server, and that is one batch."""

    async def scenario() -> None:
        client = await opened(live, stream("plants", filter={"transaction": {"$exists": True}}))
        try:
            with waters.client.start_session() as session, session.start_transaction():
                waters.plants.insert_one({"transaction": -1}, session=session)
                waters.plants.insert_many(
                    [{"transaction": n} for n in range(MORE_THAN_A_BATCH)], session=session
                )
                waters.creatures.insert_one({"transaction": "elsewhere"}, session=session)
                waters.plants.update_one({"transaction": -1}, {"$set": {"end": True}}, session=session)
            pieces = []
            async with asyncio.timeout(60):
                while len(client.events) < MORE_THAN_A_BATCH + 2:
                    had = len(client.events)
                    assert await client.read()
                    pieces.append(len(client.events) - had)
            assert [piece for piece in pieces if piece] == [MORE_THAN_A_BATCH + 2]
            numbers = [json.loads(event.data)["transaction"] for event in client.events]
            assert numbers == [-1, *range(MORE_THAN_A_BATCH), -1]
        finally:
            client.close()

    asyncio.run(scenario())


def test_transaction_is_replayed_whole_and_in_order(from_log, waters):
    async def scenario() -> None:
        [client] = await hear_all(
            from_log, waters, [stream("plants")], lambda: waters.plants.insert_one({"replay": -1})
        )
        start = client.events[-1].id
        with waters.client.start_session() as session, session.start_transaction():
            waters.plants.insert_many([{"replay": n} for n in range(MORE_THAN_A_BATCH)], session=session)
        wish = stream("plants", filter={"replay": {"$gte": 0}}, fields="replay")
        [again] = await hear_all(from_log, waters, [wish], lambda: None, [start])
        assert [json.loads(event.data)["replay"] for event in again.events] == list(range(MORE_THAN_A_BATCH))

    asyncio.run(scenario())


# -- shared work -----------------------------------------------------------------------------------


def test_requests_that_mean_the_same_share_matching_rendering_and_bytes(monkeypatch):
    """However their queries are spelt."""
    known = Namespaces("babblingBrook", ["creatures", "plants"])
    wishes = [
        {"ns": ["creatures", "plants"], "filter": ['{"a":1,"b":{"$in":[1,2]}}'], "ops": ["insert,delete"]},
        {"ops": ["delete,insert"], "filter": ['{"b":{"$in":[2,1]},"a":1.0}'], "ns": ["plants", "creatures"]},
        {"format": ["envelope"], "filter": ['{ "a" : {"$eq":1}, "b":{"$in":[1,2,2]}}'],
         "ns": ["plants", "babblingBrook.creatures"], "ops": ["insert,delete,insert"], "types": ["json"],
         "before": ["0"], "checkpoints": ["1"]},
    ]  # fmt: skip
    from brook.changes import change

    renders: list[object] = []
    matches: list[object] = []
    monkeypatch.setattr(change.documents, "to_json", _counted(change.documents.to_json, renders))
    monkeypatch.setattr(change.DecodedChange, "matches", _counted(change.DecodedChange.matches, matches))
    history = History(10**6, 60)
    subscribers = SubscriberList(Settings(), history, Replayer(DemoSource(), history, 1))
    connections = []
    for number in range(30):
        connections.append(FakeConnection())
        wanted = subscription(known, None, wishes[number % 3])
        subscribers.add(Subscriber(wanted, connections[-1], 10**6), None)
    for connection in connections:
        connection.sent.clear()
    event = {
        "documentKey": {"_id": 1}, "fullDocument": {"_id": 1, "a": 1, "b": 2},
        "ns": {"db": "babblingBrook", "coll": "creatures"}, "wallTime": datetime.datetime.now(datetime.UTC),
    }  # fmt: skip
    subscribers.publish(Batch((change.Change("82AB", "insert", bson.encode(event)),)))
    assert len({id(connection.sent[0]) for connection in connections}) == 1
    assert (len(renders), len(matches)) == (1, 1)

    # One that only has another filter shares at least the rendering.
    another = FakeConnection()
    subscribers.add(
        Subscriber(subscription(known, None, {**wishes[0], "filter": ['{"a":1}']}), another, 10**6), None
    )
    subscribers.publish(Batch((change.Change("82AC", "insert", bson.encode(event)),)))
    assert another.sent[-1] == connections[0].sent[-1]
    assert (len(renders), len(matches)) == (2, 3)


def _counted(function: Callable, calls: list[object]) -> Callable:
    def count(*arguments: object) -> object:
        calls.append(arguments)
        return function(*arguments)

    return count
