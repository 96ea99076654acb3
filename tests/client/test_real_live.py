"""Live queries of the real server, held by the client library: what is held is what `find` finds."""

from __future__ import annotations

import random
from typing import Any

import pytest
from pymongo import MongoClient

from tests.support.node import Follower

BUNDLES = [False, True]
QUERIES = {
    "set": {"filter": {"size": {"$gte": 2}}},
    "window": {"filter": {"size": {"$gte": 1}}, "sort": {"size": -1, "_id": 1}, "limit": 7},
}


@pytest.fixture
def mongo(sandbox, database, start_server):
    database.create_collection("creatures", changeStreamPreAndPostImages={"enabled": True})
    return start_server("--mongo", sandbox.uri, "--database", database.name, "--retry-ms", "50")


def position(session: Any) -> str:
    """The position of a session's last write: what a backend returns to its page."""
    return f"t{session.operation_time.time}.{session.operation_time.inc}"


def ordered(documents: list[dict[str, Any]], wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """A window has an order; the rest is in that of its keys."""
    return documents if "sort" in wanted else sorted(documents, key=lambda document: document["_id"])


def found(pond: Any, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    sort = wanted.get("sort", {"_id": 1})
    return list(pond.find(wanted["filter"]).sort(list(sort.items())).limit(wanted.get("limit", 0)))


@pytest.mark.parametrize("kind", QUERIES)
@pytest.mark.parametrize("bundle", BUNDLES)
def test_result_is_what_find_finds_across_restarts(database, mongo, bundle, kind):
    pond, dice = database.creatures, random.Random(7)
    pond.insert_many([{"_id": number, "size": number % 5} for number in range(0, 60, 2)])
    wanted = QUERIES[kind]
    with (
        database.client.start_session() as session,
        Follower(mongo.url, "live", "creatures", wanted, bundle=bundle) as follower,
    ):
        for round in range(6):
            for _ in range(40):
                key, size = {"_id": dice.randrange(60)}, dice.randrange(5)
                match dice.randrange(3):
                    case 0:
                        pond.replace_one(key, {"size": size}, upsert=True, session=session)
                    case 1:
                        pond.update_one(key, {"$set": {"size": size}}, session=session)
                    case 2:
                        pond.delete_one(key, session=session)
            if round in (2, 4):
                mongo.kill()
                pond.update_many({}, {"$inc": {"size": 1}}, session=session)
                mongo.start()
            held = follower.reached(position(session))
            assert ordered(held, wanted) == found(pond, wanted)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_transaction_is_never_half_there(sandbox, database, mongo, bundle):
    pond = database.creatures
    pond.insert_many([{"_id": "left", "money": 100}, {"_id": "right", "money": 0}])
    with (
        MongoClient[Any](sandbox.uri) as client,
        client.start_session() as session,
        Follower(mongo.url, "live", "creatures", bundle=bundle) as follower,
    ):
        accounts = client[database.name].creatures
        follower.told()
        for _ in range(20):
            with session.start_transaction():
                accounts.update_one({"_id": "left"}, {"$inc": {"money": -3}}, session=session)
                accounts.update_one({"_id": "right"}, {"$inc": {"money": 3}}, session=session)
        held = follower.reached(position(session))
        assert {one["_id"]: one["money"] for one in held} == {"left": 40, "right": 60}
        while True:
            documents, _ = follower.told()
            assert sum(one["money"] for one in documents) == 100
            if documents == held:
                break


@pytest.mark.parametrize("bundle", BUNDLES)
def test_position_of_a_write_that_changed_nothing_is_reached(database, mongo, bundle):
    with (
        database.client.start_session() as session,
        Follower(mongo.url, "live", "creatures", bundle=bundle) as follower,
    ):
        database.creatures.update_one({"_id": "nobody"}, {"$set": {"size": 1}}, session=session)
        assert follower.reached(position(session)) == []


@pytest.mark.parametrize("bundle", BUNDLES)
def test_dropped_collection_is_an_empty_result(database, mongo, bundle):
    database.creatures.insert_one({"_id": 1})
    with Follower(mongo.url, "live", "creatures", bundle=bundle) as follower:
        assert follower.told()[0] == [{"_id": 1}]
        database.creatures.drop()
        documents, news = follower.told()
        assert (documents, news["changes"], news["reason"]) == ([], None, "collection-dropped")


@pytest.mark.parametrize("bundle", BUNDLES)
def test_count_is_kept_true(database, mongo, bundle):
    with Follower(mongo.url, "count", "creatures", bundle=bundle) as follower:
        assert follower.told() == [0]
        database.creatures.insert_many([{"_id": 1}, {"_id": 2}])
        assert follower.told() == [2]


def test_bad_filter_is_told_by_the_query_alone(database, mongo):
    with Follower(mongo.url, "live", "creatures", {"filter": {"$where": "1"}}) as follower:
        assert follower.until_state("ended")["code"] == "invalid-filter"
