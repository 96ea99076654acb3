"""`--check` of replica sets and machines that are not at hand."""

from __future__ import annotations

import asyncio
import resource

import pytest

from brook import host
from brook.finding import Finding, Level
from brook.settings import Settings
from sources.mongo import doctor
from tests.support.fake_client import ARBITER, PRIMARY, SECONDARY, STARTING, FakeClient, answering, silent

OK, NOTE, WARNING, ERROR = Level.OK, Level.NOTE, Level.WARNING, Level.ERROR


def examine(client: FakeClient) -> dict[str, Finding]:
    async def look() -> list[Finding]:
        return [each async for each in doctor._Doctor(client, Settings(), ()).findings()]

    return {each.subject: each for each in asyncio.run(look())}


A, B, C = answering("a:1", PRIMARY), answering("b:2", SECONDARY), answering("c:3", SECONDARY)
MONGOS = {"isWritablePrimary": True, "msg": "isdbgrid", "hosts": []}
TWO_AND_ARBITER = {**PRIMARY, "hosts": ["a:1", "b:2"], "arbiters": ["c:3"]}


@pytest.mark.parametrize(
    ("client", "subject", "level", "says"),
    [
        (FakeClient(), "clock", OK, "differ by 0.0"),
        (FakeClient(skew_seconds=-90), "clock", WARNING, "differ by 90.0"),
        (FakeClient(skew_seconds=90), "clock", WARNING, "differ by 90.0"),
        (FakeClient(), "version", OK, "MongoDB 8.0.4"),
        (FakeClient(version="4.2.25", wire=8), "version", ERROR, "too old"),
        (FakeClient(version="4.4.29", wire=9), "version", NOTE, "live queries"),
        (FakeClient(version="5.0.31", wire=13), "version", NOTE, "lacks documents before a change"),
        (FakeClient(version="6.0.8", wire=17), "version", NOTE, "lacks changes of more than 16 MB"),
        (FakeClient(version="6.0.9", wire=17), "version", OK, "MongoDB 6.0.9"),
        (FakeClient({"isreplicaset": True, "hosts": []}), "replica set", ERROR, "rs.initiate()"),
        (FakeClient({"isWritablePrimary": True}), "replica set", ERROR, "standalone"),
        (FakeClient(SECONDARY), "replica set", WARNING, "rs0 has no primary now"),
        (FakeClient(MONGOS), "replica set", NOTE, "a mongos"),
        (FakeClient(MONGOS), "reachable", OK, "answers at a:1"),
        (FakeClient(MONGOS, servers=[answering("a:1", MONGOS), silent("b:2")]), "reachable", WARNING,
         "answers at a:1, and not at b:2"),
        (FakeClient(servers=[C, A, B]), "reachable", OK, "answers at a:1, b:2, c:3"),
        (FakeClient(servers=[A, B, C]), "replica set", OK, "rs0 has 3 members: a:1, b:2, c:3"),
        (FakeClient(servers=[A, silent("b:2"), silent("c:3", refused=False)]), "replica set", WARNING,
         "b:2, c:3 do not answer: the data is on 1 of 3 members, and events may not flow"),
        (FakeClient(TWO_AND_ARBITER, servers=[A, B, answering("c:3", ARBITER)]), "replica set", OK,
         "rs0 has 3 members"),
        (FakeClient(TWO_AND_ARBITER, servers=[A, silent("b:2"), answering("c:3", ARBITER)]), "replica set",
         WARNING, "b:2 does not answer: the data is on 1 of 3 members, and events may not flow"),
        (FakeClient(servers=[A, *(answering(each, STARTING) for each in ("b:2", "c:3"))]), "replica set",
         WARNING, "the data is on 1 of 3 members"),
        (FakeClient(servers=[A]), "replica set", OK, "rs0 has 3 members"),
        (FakeClient(), "journal", NOTE, "every 100 ms"),
        (FakeClient(journal_ms=100), "journal", NOTE, "every 100 ms"),
        (FakeClient(journal_ms=10), "journal", OK, "every 10 ms"),
        (FakeClient(), "privileges", NOTE, "may not look at it"),
    ],
)  # fmt: skip
def test_mongodb_that_is_not_at_hand(client, subject, level, says, monkeypatch):
    monkeypatch.setattr(doctor, "DISCOVERY_SECONDS", 0.1)
    found = examine(client)[subject]
    assert found.level is level
    assert says in found.says
    assert found.remedy or level in (OK, NOTE, ERROR)


def test_members_get_time_to_answer_the_driver():
    class SlowToLearn(FakeClient):
        looks = 0

        def server_descriptions(self):
            self.looks += 1
            servers = [A, silent("b:2", refused=False), C] if self.looks < 3 else [A, B, C]
            return {server.address: server for server in servers}

    found = examine(SlowToLearn())
    assert found["reachable"].says.endswith("a:1, b:2, c:3")
    assert found["replica set"].level is OK


@pytest.mark.parametrize(
    ("hard", "level"), [(1024, WARNING), (4096, WARNING), (4097, OK), (resource.RLIM_INFINITY, OK)]
)
def test_machine_is_told_of_too_few_open_files(monkeypatch, hard, level):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, hard))
    files = host.examine()[0]
    assert (files.level, bool(files.remedy)) == (level, level is WARNING)
