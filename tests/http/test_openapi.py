"""docs/openapi.yaml, compared with the code, with protocol.md and with a running server."""

from __future__ import annotations

import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from openapi_spec_validator import OpenAPIV32SpecValidator

from brook import __version__, errors
from brook.bundles import MAX_SUBSCRIPTIONS
from brook.delivery.subscriber import CloseReason
from brook.event import ResetReason
from brook.parameters import EVERY, MAX_LIMIT, MAX_REPEATED, PARAMETERS
from brook.settings import Settings, flag
from brook.subscription import OPERATIONS, Format, Mode, Types
from handlers.base import STATUS
from handlers.documents import PARAMETERS as OF_DOCUMENTS
from handlers.streams import MAX_STREAMS
from tests.support.openapi import DESCRIPTION, PATH, data_of_events, parsed
from tests.support.openapi_requests import described, exercise
from tests.support.processes import ROOT, ServerProcess

SPEC, SCHEMAS = DESCRIPTION.spec, DESCRIPTION.schemas
PROBLEMS = {
    name: response["content"]["application/problem+json"]["schema"]["properties"]
    for name, response in SPEC["components"]["responses"].items()
    if "application/problem+json" in response["content"]
}

# -- compared with the code ------------------------------------------------------------------------


def test_description_is_valid_and_of_this_version():
    OpenAPIV32SpecValidator(SPEC).validate()
    assert SPEC["openapi"].startswith("3.2.")
    assert SPEC["info"]["version"] == __version__


def test_every_request_of_the_protocol_is_described():
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(GET|POST) (/\w*(?:/\{name\})?)` \|", text, re.M)) - {("GET", "/")}
    described = {
        (method.upper(), path)
        for path, item in SPEC["paths"].items()
        for method in item
        if method in ("get", "post")
    }
    assert listed | {("GET", "/documents")} == described


def names(path: str) -> list[str]:
    """The query parameters of a GET."""
    references = [one["$ref"].rpartition("/")[2] for one in SPEC["paths"][path]["get"]["parameters"]]
    parameters = [SPEC["components"]["parameters"][name] for name in references]
    return [one["name"] for one in parameters if one["in"] == "query"]


def test_every_parameter_is_described():
    assert names("/stream") == ["ns", "since", *PARAMETERS[1:]]
    assert names("/stream/{name}") == ["since", *PARAMETERS[1:]]
    assert set(names("/documents")) == set(names("/documents/{name}")) == set(OF_DOCUMENTS)
    bundled = {*PARAMETERS, "stream", "snapshot"} - {"checkpoints"}
    assert set(SCHEMAS["BundledSubscription"]["properties"]) == bundled


def test_choices_and_bounds_are_those_of_the_code():
    assert SCHEMAS["Operation"]["enum"] == list(OPERATIONS)
    for name, kind in (("Format", Format), ("Types", Types), ("Mode", Mode)):
        assert SCHEMAS[name]["enum"] == list(kind)
        assert SCHEMAS[name]["default"] == next(iter(kind))
    assert SCHEMAS["Limit"] == {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT}
    assert SCHEMAS["Every"] == {"type": "integer", "minimum": EVERY[0], "maximum": EVERY[-1]}
    assert SCHEMAS["BundleRequest"]["properties"]["subscriptions"]["maxProperties"] == MAX_SUBSCRIPTIONS
    assert SCHEMAS["StreamList"]["properties"]["streams"]["maxItems"] == MAX_STREAMS
    for name in ("ns", "id"):
        assert SPEC["components"]["parameters"][name]["schema"]["maxItems"] == MAX_REPEATED


def codes(schema: dict[str, Any]) -> list[str]:
    return schema["code"].get("enum") or [schema["code"]["const"]]


def raised() -> set[str]:
    """The codes of all errors of the code."""
    kinds = [errors.ClientError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return {kind.code for kind in kinds}


def test_every_code_is_described_with_its_status():
    described = {(schema["status"]["const"], code) for schema in PROBLEMS.values() for code in codes(schema)}
    in_a_stream = codes(SCHEMAS["ProblemEvent"]["properties"]["data"]["contentSchema"]["properties"])
    assert {code for _, code in described} | set(in_a_stream) == raised() | {"method-not-allowed"}
    for status, code in described - {(405, "method-not-allowed")}:
        assert STATUS[code] == status
    # A status of its own would stop an EventSource for good.
    unavailable = {kind.code for kind in errors.Unavailable.__subclasses__()}
    assert set(in_a_stream) == unavailable | {"snapshot-too-large", "invalid-parameter"}


def test_every_reason_is_described():
    assert SCHEMAS["ResetReason"]["enum"] == list(ResetReason)
    bye = SCHEMAS["ByeEvent"]["properties"]["data"]["contentSchema"]["properties"]["reason"]["enum"]
    assert set(bye) < set(CloseReason)
    protocol = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    goodbyes = protocol.partition("\n## Goodbyes")[2].partition("\n## ")[0]
    assert bye == re.findall(r"^\| `([\w-]+)` \|", goodbyes, re.M)


def test_every_event_of_the_protocol_is_described():
    protocol = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^event: (\w+)$", protocol, re.M))
    described = {*DESCRIPTION.events("StreamEvent"), *DESCRIPTION.events("BundleEvent")} - {"message"}
    assert shown <= described
    assert described - shown <= {"replace", "count"}, "in the text of protocol.md alone"


def test_settings_that_are_named_exist():
    named = set(re.findall(r"--[a-z][\w-]+", PATH.read_text(encoding="utf-8")))
    assert named
    assert named <= {flag(name) for name in Settings.__dataclass_fields__}


# -- compared with a running server ----------------------------------------------------------------

# A stream ends by itself, with a goodbye, after so many seconds.
SHORT = ("--connection-max-seconds", "0.2", "--heartbeat-seconds", "0.1")


@pytest.fixture
def server(sandbox, database, start_server) -> ServerProcess:
    database.creatures.insert_many([{"a": 1, "type": "newt"}, {"a": {"b": [1, 2]}}, {"b": "x"}])
    return start_server("--mongo", sandbox.uri, "--database", database.name, *SHORT)


@pytest.fixture
def writing(database) -> Iterator[None]:
    """Documents come, change and go all the time."""
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.01):
            id = database.creatures.insert_one({"type": "newt", "size": 1}).inserted_id
            database.creatures.update_one({"_id": id}, {"$set": {"size": 2}})
            database.creatures.replace_one({"_id": id}, {"type": "otter"})
            database.creatures.delete_one({"_id": id})

    database.command("collMod", "creatures", changeStreamPreAndPostImages={"enabled": True})
    thread = threading.Thread(target=write)
    thread.start()
    yield
    stop.set()
    thread.join()


def healthy(server: ServerProcess) -> None:
    bad = [line for line in server.log if re.search(r"Traceback| ERROR ", line)]
    assert not bad, bad[:20]
    assert server.stop() == 0


def test_no_request_gets_an_answer_that_is_not_described(server, database, writing):
    seen = exercise(described(server.url, "creatures", f"{database.name}.creatures", "nothing"))
    # It would be no test if all were refused.
    for label in ("GET /stream", "GET /stream/{name}", "POST /stream", "GET /documents/{name}"):
        assert seen[label, 200] >= 2, seen
        assert seen[label, 400] >= 2, seen
    healthy(server)


QUERIES = {
    "plain": ({}, {"message", "delete", "bye"}),
    "envelope": ({"format": "envelope", "before": 1}, {"insert", "update", "replace", "delete", "bye"}),
    "a gap": ({"since": "t1.1"}, {"reset", "message", "delete", "bye"}),
    "live": ({"mode": "live"}, {"snapshot", "live", "changes", "bye"}),
    "a window": ({"mode": "live", "sort": {"size": -1}, "limit": 2}, {"snapshot", "live", "changes", "bye"}),
    "count": ({"mode": "count"}, {"count", "bye"}),
    "ejson": ({"types": "ejson"}, {"message", "delete", "bye"}),
}  # fmt: skip


def kinds_of(case: schemathesis.Case, expected: set[str]) -> set[str]:
    """The kinds of event in answers to a request, until the expected ones have come: an answer is short."""
    seen: set[str] = set()
    for _ in range(50):
        answer = case.call_and_validate(additional_checks=[data_of_events], timeout=20)
        seen |= {event["event"] for event in parsed(answer.content)}
        if seen >= expected:
            break
    return seen


@pytest.mark.parametrize("kind", QUERIES)
def test_events_of_a_stream_are_as_described(kind, server, writing):
    query, expected = QUERIES[kind]
    case = described(server.url, "creatures")["/stream/{name}"]["GET"].Case(
        path_parameters={"name": "creatures"},
        query={name: json.dumps(value) if name == "sort" else value for name, value in query.items()},
    )
    assert kinds_of(case, expected) == expected


def test_events_of_a_bundle_are_as_described(server, writing):
    body = {
        "a": {"mode": "live", "filter": {"type": "newt"}},
        "b": {"format": "envelope"},
        "c": {"mode": "count"},
    }
    case = described(server.url, "creatures")["/stream"]["POST"].Case(
        body={"subscriptions": body}, media_type="application/json"
    )
    expected = {"opened", "snapshot", "live", "changes", "count", *OPERATIONS, "commit", "bye"}
    assert kinds_of(case, expected) == expected


def refused(request: urllib.request.Request) -> dict[str, Any]:
    with pytest.raises(urllib.error.HTTPError) as raised, urllib.request.urlopen(request, timeout=20):
        pass
    with raised.value as answer:
        return json.loads(answer.read())


@pytest.mark.parametrize("name", ["ns", "id", "ops", "fields"])
def test_empty_list_in_a_bundle_is_refused_and_never_means_everything(name, server):
    body = {"subscriptions": {"a": {"format": "envelope", name: []}}}
    problem = refused(
        urllib.request.Request(
            server.url + "/stream", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
    )
    assert (problem["status"], problem["code"]) == (400, "invalid-parameter")
    assert problem["detail"].startswith(f"{name} is an empty list")
