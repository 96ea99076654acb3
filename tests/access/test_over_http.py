"""Access over HTTP: a guarded server, asked with every kind of credentials."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from typing import Any

import pytest

from tests.support.guarded import SECRET, bearer, documents, get
from tests.support.processes import ServerProcess
from tests.support.raw_client import RawClient

CONFIGURATION = """
cors_origin = ["https://shop.example"]
max_connections_per_subject = 3
max_subscriptions_per_subject = 2

[access]
algorithms = ["HS256"]
key_file = "jwt.key"
cookie = "session"
query_token = true
signed_streams = true

[streams.mine]
namespace = "guarded.orders"
require = { role = ["customer", "clerk"] }
filter = { owner = "$claims.sub" }
fields = ["status", "total"]

[streams.totals]
namespace = "guarded.orders"
filter = { owner = "$claims.sub" }
modes = ["count"]

[streams.news]
namespace = "guarded.orders"
public = true
filter = { news = true }
"""


@pytest.fixture(scope="module")
def server(start_guarded, orders) -> ServerProcess:
    orders.insert_many(
        [
            {"_id": 1, "owner": "u7", "status": "new", "total": 5, "secret": 1},
            {"_id": 2, "owner": "u8", "status": "new", "total": 6, "secret": 2},
            {"_id": 3, "news": True, "text": "sale"},
        ]
    )
    return start_guarded(CONFIGURATION)


@pytest.fixture(scope="module")
def customer(mint) -> str:
    return mint(sub="u7", role="customer")


# -- who is let in ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/stream/mine", "/documents/mine", "/stream/mine?mode=live"])
def test_stream_needs_a_token(server, path):
    status, problem = get(server, path)
    assert (status, problem["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize("path", ["/stream/mine", "/documents/mine", "/streams"])
def test_bad_and_old_tokens_are_told_apart(server, mint, path):
    for token, code in (("x.y.z", "token-invalid"), (mint(sub="u7", seconds=-5), "token-expired")):
        status, problem = get(server, path, **bearer(token))
        assert (status, problem["code"]) == (401, code)


def test_claims_that_are_not_accepted_are_forbidden(server, mint):
    status, problem = get(server, "/documents/mine", **bearer(mint(sub="u7", role="visitor")))
    assert (status, problem["code"]) == (403, "forbidden")
    status, problem = get(server, "/documents/mine", **bearer(mint(role="customer")))
    assert (status, problem["code"]) == (403, "forbidden")
    assert "$claims.sub is missing" in problem["detail"]


@pytest.mark.parametrize("name", ["orders", "guarded.orders", "other", "/stream"])
def test_stream_that_is_not_configured_is_unknown(server, customer, name):
    path = name if name.startswith("/") else f"/stream/{name}"
    status, problem = get(server, path, **bearer(customer))
    assert (status, problem["code"]) == (404, "unknown-stream")


def test_documents_are_the_own_ones_with_the_shown_fields(server, customer):
    assert documents(server, **bearer(customer)) == [{"_id": 1, "status": "new", "total": 5}]


def test_public_stream_needs_no_token(server):
    assert [one["_id"] for one in documents(server, "/documents/news")] == [3]


@pytest.mark.parametrize(
    "query",
    [
        'filter={"secret":1}',
        'filter={"owner":"u8"}',
        'mode=live&sort={"secret":-1}',
        'mode=live&sort={"owner":1}',
    ],
)
def test_hidden_field_cannot_be_asked_about(server, customer, query):
    status, problem = get(server, "/stream/mine?" + query.replace('"', "%22"), **bearer(customer))
    assert (status, problem["code"]) == (400, "invalid-filter")
    assert "u8" not in problem["detail"]


def test_mode_that_is_not_granted_is_forbidden(server, customer):
    status, problem = get(server, "/stream/totals?mode=live", **bearer(customer))
    assert (status, problem["code"]) == (403, "forbidden")
    status, problem = get(server, "/documents/totals", **bearer(customer))
    assert (status, problem["code"]) == (403, "forbidden")


def test_list_has_the_streams_that_the_client_opens(server, customer):
    assert [one["name"] for one in get(server, "/streams")[1]["streams"]] == ["news"]
    listed = get(server, "/streams", **bearer(customer))[1]["streams"]
    assert [one["name"] for one in listed] == ["mine", "news", "totals"]
    assert listed[0] == {
        "name": "mine", "collection": "guarded.orders", "modes": ["changes", "live", "count"],
        "fields": ["status", "total"],
    }  # fmt: skip


def test_signed_stream_is_what_the_token_says(server, mint):
    inbox = {"namespace": "guarded.orders", "filter": {"owner": "u8"}, "fields": ["total"]}
    token = mint(brook={"streams": {"inbox": inbox}})
    assert documents(server, "/documents/inbox", **bearer(token)) == [{"_id": 2, "total": 6}]
    status, problem = get(server, "/documents/inbox", **bearer(mint()))
    assert (status, problem["code"]) == (404, "unknown-stream")
    elsewhere = {"namespace": "admin.system.users"}
    status, problem = get(server, "/documents/inbox", **bearer(mint(brook={"streams": {"inbox": elsewhere}})))
    assert (status, problem["code"]) == (403, "forbidden")


# -- where the token is ----------------------------------------------------------------------------


def test_header_goes_before_cookie_and_that_before_query(server, mint):
    tokens = [mint(sub=name, role="clerk") for name in ("u7", "u8", "nobody")]
    path = f"/documents/mine?access_token={tokens[2]}"
    assert documents(server, path) == []
    cookie = {"Cookie": f"other=1; session={tokens[1]}"}
    assert documents(server, path, **cookie)[0]["_id"] == 2
    assert documents(server, path, **cookie, **bearer(tokens[0]))[0]["_id"] == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "https://shop.example"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[::1"}, 403),
        ({"Origin": "http://[x]"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_cookie_counts_for_pages_of_allowed_origins_only(server, customer, headers, status):
    said = get(server, "/documents/mine", Cookie=f"session={customer}", **headers)
    assert said[0] == status
    assert get(server, "/documents/mine", **bearer(customer), **headers)[0] == 200


def test_cookie_counts_for_the_own_origin(server, customer):
    assert get(server, "/documents/mine", Cookie=f"session={customer}", Origin=server.url)[0] == 200


def test_query_token_has_to_be_switched_on(start_guarded, orders, customer):
    server = start_guarded(CONFIGURATION.replace("query_token = true", ""))
    status, problem = get(server, f"/stream/mine?access_token={customer}", **bearer(customer))
    assert (status, problem["code"]) == (400, "invalid-parameter")
    assert customer not in json.dumps(problem)


# -- streams ---------------------------------------------------------------------------------------


def run(scenario: Any) -> None:
    asyncio.run(scenario)


def test_stream_ends_with_its_token_and_goes_on_with_the_next(server, orders, mint):
    async def scenario() -> None:
        path = "/stream/mine?filter=%7B%22status%22:%22paid%22%7D"
        first = bearer(mint(sub="u9", role="clerk", seconds=2.5))
        with closing(await RawClient(server.port, path, headers=first).connect()) as client:
            await client.opened()
            orders.insert_one({"_id": "a", "owner": "u9", "status": "paid"})
            assert json.loads((await client.next()).data)["_id"] == "a"
            bye = await client.next()
            assert (bye.event, json.loads(bye.data)) == ("bye", {"reason": "token-expired"})
            assert not await client.read()
        orders.insert_one({"_id": "b", "owner": "u9", "status": "paid"})
        orders.insert_one({"_id": "c", "owner": "u7", "status": "paid"})
        orders.insert_one({"_id": "d", "owner": "u9", "status": "paid"})
        second = bearer(mint(sub="u9", role="clerk"))
        again = RawClient(server.port, path, headers=second, last_id=client.parser.last_id)
        with closing(await again.connect()):
            assert [json.loads((await again.next()).data)["_id"] for _ in range(2)] == ["b", "d"]

    run(scenario())


def test_bundle_is_under_the_rules_too(server, mint):
    async def scenario() -> None:
        body = {
            "subscriptions": {
                "a": {"stream": "mine", "mode": "live"},
                "b": {"stream": "totals", "mode": "count"},
            }
        }
        headers = bearer(mint(sub="u8", role="clerk"))
        client = RawClient(server.port, headers=headers, body=json.dumps(body).encode())
        with closing(await client.connect()):
            assert client.status == 200
            seen = b""
            while b'"count":1' not in seen or b"total" not in seen:
                await client.read()
                seen = client.raw
        assert b"secret" not in seen
        assert b"u7" not in seen
        client = RawClient(server.port, body=json.dumps(body).encode())
        with closing(await client.connect()):
            assert client.status == 401

    run(scenario())


def test_subject_has_a_bounded_number_of_streams(server, mint):
    async def scenario() -> None:
        headers = bearer(mint(sub="many", role="clerk"))
        clients = [await RawClient(server.port, "/stream/mine", headers=headers).connect() for _ in range(3)]
        for client in clients:
            await client.opened()
        refused = await RawClient(server.port, "/stream/mine", headers=headers).connect()
        problem = await refused.next()
        assert (problem.event, json.loads(problem.data)["code"]) == ("problem", "too-many-connections")
        refused.close()
        other = bearer(mint(sub="another", role="clerk"))
        with closing(await RawClient(server.port, "/stream/mine", headers=other).connect()) as client:
            await client.opened()
        clients.pop().close()
        async with asyncio.timeout(20):
            while True:
                with closing(
                    await RawClient(server.port, "/stream/mine", headers=headers).connect()
                ) as client:
                    await client.read()
                    if not client.events:
                        break
        for client in clients:
            client.close()

    run(scenario())


def test_subject_has_a_bounded_number_of_subscriptions(server, mint):
    async def scenario() -> None:
        headers = bearer(mint(sub="curious", role="clerk"))
        path = "/stream/mine?filter=%7B%22total%22:{}%7D"
        clients = [
            await (await RawClient(server.port, path.format(n), headers=headers).connect()).opened()
            for n in (1, 2)
        ]
        refused = await RawClient(server.port, path.format(3), headers=headers).connect()
        assert "different subscriptions" in json.loads((await refused.next()).data)["detail"]
        with closing(await RawClient(server.port, path.format(2), headers=headers).connect()) as client:
            await client.opened()
        for client in (*clients, refused):
            client.close()

    run(scenario())


# -- around it -------------------------------------------------------------------------------------


def test_counts_of_all_clients_are_for_nobody(server):
    assert get(server, "/metrics")[0] == 404


def test_foreign_host_is_refused(server):
    status, problem = get(server, "/streams", Host="evil.example")
    assert (status, problem["code"]) == (421, "foreign-host")


UNUSED = """
[[streams.twice.allow]]

[[streams.twice.allow]]
"""


@pytest.mark.parametrize(
    ("arguments", "status", "warnings"), [((), 421, 2), (("--allowed-host", "brook.example"), 200, 1)]
)
def test_server_on_the_network_warns_that_it_refuses_its_public_name(
    start_guarded, orders, mint, arguments, status, warnings
):
    text = CONFIGURATION + '[streams.twice]\nnamespace = "guarded.orders"\n' + UNUSED
    server = start_guarded(text, "--host", "0.0.0.0", *arguments)
    assert get(server, "/streams", Host="brook.example", **bearer(mint(sub="u7")))[0] == status
    assert server.stop() == 0
    warned = [line for line in server.log if " WARNING " in line]
    assert len(warned) == warnings, warned
    assert "allow[1] is never used" in warned[0]
    assert all("421 foreign-host" in line and "--allowed-host" in line for line in warned[1:])


def test_log_has_no_token_and_no_key(server):
    log = "\n".join(server.log)
    assert "access rules" in log
    assert "no access rules" not in log
    assert "eyJ" not in log
    assert SECRET not in log
    assert "Traceback" not in log
