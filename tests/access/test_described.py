"""docs/openapi.yaml, compared with a server that has access rules, for clients of every kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from schemathesis import GenerationMode

from tests.access.conftest import Mint
from tests.support.guarded import bearer
from tests.support.openapi import data_of_events, parsed
from tests.support.openapi_requests import described_as_guarded, exercise
from tests.support.processes import ServerProcess

CONFIGURATION = """
connection_max_seconds = 0.2
heartbeat_seconds = 0.1

[access]
algorithms = ["HS256"]
key_file = "jwt.key"

[streams.default]
namespace = "guarded.orders"
require = { role = "customer" }

[streams.mine]
namespace = "guarded.orders"
require = { role = "customer" }
filter = { owner = "$claims.sub" }
fields = ["status", "total"]
client_filter = ["a", "b", "status"]

[streams.all]
namespace = "guarded.orders"
require = { role = "customer" }

[streams.totals]
namespace = "guarded.orders"
require = { role = "customer" }
modes = ["count"]
"""

GUARDED = ("GET /stream", "GET /stream/{name}", "POST /stream", "GET /documents", "GET /documents/{name}")
FEW = {GenerationMode.POSITIVE: 6, GenerationMode.NEGATIVE: 4}


@pytest.fixture(scope="module")
def server(start_guarded: Callable[..., ServerProcess], orders) -> ServerProcess:
    orders.insert_many([{"_id": number, "owner": "u7", "status": "new", "total": 5} for number in range(3)])
    return start_guarded(CONFIGURATION)


def test_client_with_a_token_gets_described_answers(server: ServerProcess, mint: Mint):
    """Where it gets one, the check `ignored_auth` asks again without the token, and with another."""
    schema = described_as_guarded(server.url, "all", "mine", "totals", "nothing")
    seen = exercise(schema, headers=bearer(mint(sub="u7", role="customer", seconds=3600)))
    for label in GUARDED:
        assert seen[label, 400] >= 2, seen
        # Hardly a bundle that is made at random has only modes and fields that are granted: the next test.
        assert seen[label, 200] >= 2 or label == "POST /stream", seen
    assert {status for _, status in seen} >= {200, 400, 403, 404}, "also modes that are not granted"
    assert not [line for line in server.log if "Traceback" in line]


def test_events_of_a_guarded_bundle_are_as_described(server: ServerProcess, mint: Mint):
    subscriptions = {
        "a": {"stream": "mine", "mode": "live", "filter": {"status": "new"}},
        "b": {"stream": "totals", "mode": "count"},
        "c": {"format": "envelope"},
    }
    case = described_as_guarded(server.url, "mine", "totals")["/stream"]["POST"].Case(
        body={"subscriptions": subscriptions}, media_type="application/json"
    )
    answer = case.call_and_validate(
        headers=bearer(mint(sub="u7", role="customer")), additional_checks=[data_of_events], timeout=20
    )
    seen = [event["event"] for event in parsed(answer.content)]
    assert seen == ["opened", "snapshot", "live", "count", "commit", "bye"]


@pytest.mark.parametrize(
    ("kind", "status"), [("none", 401), ("nonsense", 401), ("expired", 401), ("visitor", 403)]
)
def test_client_that_is_refused_gets_described_answers(kind, status, server: ServerProcess, mint: Mint):
    headers = {
        "none": {},
        "nonsense": bearer("x.y.z"),
        "expired": bearer(mint(sub="u7", role="customer", seconds=-5)),
        "visitor": bearer(mint(sub="u7", role="visitor", seconds=3600)),
    }
    seen = exercise(described_as_guarded(server.url, "mine", "totals"), FEW, headers[kind])
    for label in GUARDED:
        assert seen[label, status] >= 2, seen
        assert not seen[label, 200], seen
    assert not [line for line in server.log if "Traceback" in line]
