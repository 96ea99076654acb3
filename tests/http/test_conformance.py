"""The conformance suite: it finds nothing at this server, and each fault of a server that lies."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from conformance.__main__ import RULES, main
from conformance.rule import Needs
from tests.support.lying_proxy import LyingProxy, changed, judged, without
from tests.support.processes import ROOT, ServerProcess


@pytest.fixture
def server(sandbox, database, start_server) -> ServerProcess:
    database.creatures.insert_many([{"type": "newt"}, {"type": "otter"}])
    return start_server("--mongo", sandbox.uri, "--database", database.name, "--heartbeat-seconds", "0.3")


def test_every_rule_has_a_name_of_its_own_and_is_documented():
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    page = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z][a-z0-9-]+)` \| (.*?) \|", page, re.M) == [
        (rule.name, rule.promise) for rule in RULES
    ]


def test_this_server_keeps_every_rule(server, sandbox, database):
    before = list(database.creatures.find())
    command = [
        sys.executable,
        "-m",
        "conformance",
        server.url,
        "--mongo",
        sandbox.uri,
        "--keep-alive-seconds",
        "2",
    ]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
    guards = {rule.name for rule in RULES if rule.needs is Needs.GUARD}
    assert judged(ended.stdout) == {rule.name: "-" if rule.name in guards else "ok" for rule in RULES}
    said = f"{len(RULES) - len(guards)} rules checked, 0 broken, {len(guards)} left out"
    assert ended.stdout.splitlines()[-1] == said
    assert list(database.creatures.find()) == before, "it has removed its documents"


def test_demo_keeps_the_rules_that_it_can(start_server, capsys):
    demo = start_server("--demo", "--heartbeat-seconds", "0.3")
    assert main([demo.url, "--keep-alive-seconds", "4"]) == 0
    found = judged(capsys.readouterr().out)
    assert found["headers"] == found["keep-alive"] == "ok"
    assert found["filter"] == found["snapshot"] == "-"


def doubled(piece: bytes) -> bytes:
    """The same event twice."""
    return re.sub(rb"((?:id: [^\n]+\n)(?:event: [^\n]+\n)?data: [^\n]+\n\n)", rb"\1\1", piece)


# By what the server does wrong: its lie about the answer or the request, and the rules that find it.
LIES = {
    "lets caches keep a stream": ({"answer": without(rb"Cache-Control: no-cache[^\r]*\r\n")}, {"headers"}),
    "lets nginx collect a stream": ({"answer": without(rb"X-Accel-Buffering: no\r\n")}, {"headers"}),
    "sends a retry that is no number": (
        {"answer": changed(rb"retry: 3000", b"retry: soon")}, {"opening", "bytes"},
    ),
    "ends lines with CR": ({"answer": changed(rb"(data: [^\n]*)\n", rb"\1\r\n")}, {"bytes"}),
    "has a field of its own": ({"answer": changed(rb"retry: 3000\n", b"retry: 3000\nspeed: 1\n")}, {"bytes"}),
    "is silent when nothing happens": ({"answer": without(rb"(?m)^(:|id: t[0-9.]+)\n\n")}, {"keep-alive"}),
    "compresses for everybody": (
        {"request": changed(rb"Accept-Encoding: identity", b"Accept-Encoding: gzip")}, {"no-compression"},
    ),
    "forgets pages of other origins": ({"answer": changed(rb", Last-Event-ID\r", b"\r")}, {"preflight"}),
    "is always ready": ({"answer": changed(rb'"reasons": \[\]', b'"reasons": ["is"]')}, {"ready"}),
    "calls a problem JSON": (
        {"answer": changed(rb"application/problem\+json", b"application/json")}, {"operator", "at"},
    ),
    "has codes of its own": (
        {"answer": changed(rb"invalid-filter", b"bad-filter")}, {"operator", "filter-json"},
    ),
    "takes any parameter": ({"request": without(rb"\?flter=%7B%7D")}, {"unknown-parameter"}),
    "says nothing of a gap": (
        {"answer": without(rb"id\nevent: reset\n[^\n]*\n\n")}, {"garbage-id", "history-lost"},
    ),
    "sends an event twice": ({"answer": doubled}, {"order", "documents"}),
    "forgets the header": (
        {"request": without(rb"Last-Event-ID: [^\r]*\r\n")}, {"last-event-id", "header-wins"},
    ),
    "forgets since": (
        {"request": without(rb"since=[^& ]*&?")}, {"since-id", "checkpoint"},
    ),
    "forgets filters": ({"request": without(rb"filter=%7B[^& ]*&?")}, {"filter", "live-changes", "count"}),
    "calls a delete a message": ({"answer": without(rb"event: delete\n")}, {"documents", "deletes", "ops"}),
    "loses the _id of a field list": ({"request": changed(rb"fields=size", b"fields=place")}, {"fields"}),
    "swaps documents in a window": ({"answer": changed(rb'"before":"[^"]*"', b'"before":null')}, {"window"}),
    "counts wrongly": (
        {"answer": changed(rb'"count":(\d)', rb'"count":1\1')}, {"snapshot", "count", "live-resume"},
    ),
    "gives events of a bundle no tag": ({"answer": without(rb'"of":"[^"]*",')}, {"commit"}),
    "never commits": ({"answer": changed(rb"event: commit", b"event: comit")}, {"commit", "bundle-resume"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def honest_server(sandbox):
    server = ServerProcess("--mongo", sandbox.uri, "--database", "lies", "--heartbeat-seconds", "0.2").start()
    yield server
    server.kill()


@pytest.mark.parametrize("fault", LIES)
def test_server_that_lies_is_found_out_by_the_right_rule(fault, honest_server, sandbox, capsys):
    lie, expected = LIES[fault]
    asked = sorted(expected | {"health", "streams"})
    with LyingProxy(honest_server.port, **lie) as proxy:
        options = ["--mongo", sandbox.uri, "--keep-alive-seconds", "0.7", "--timeout-seconds", "0.7"]
        status = main([proxy.url, *options, *(word for name in asked for word in ("--rule", name))])
    found = judged(capsys.readouterr().out)
    assert {name for name, word in found.items() if word == "BREACH"} == expected
    assert (status, len(found)) == (1, len(asked))


def test_every_rule_but_a_few_was_seen_to_fail():
    """Also those of a guarded server: tests/access."""
    asked = {rule.name for rule in RULES if rule.needs is not Needs.GUARD}
    never = asked - set().union(*(expected for _, expected in LIES.values()))
    assert len(never) <= 22, never


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["localhost:3333"], "begins with http://"),
        (["http://127.0.0.1:9"], "does not answer"),
    ],
)
def test_what_cannot_be_checked_is_said(arguments, said, capsys):
    assert main(arguments) == 2
    assert said in capsys.readouterr().err
