"""The conformance suite at a server with access rules, and at ones whose guard sleeps."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conformance.__main__ import RULES, main
from conformance.rule import Needs
from tests.access.conftest import Mint
from tests.support.lying_proxy import Lie, LyingProxy, changed, judged, without
from tests.support.processes import ServerProcess

CONFIGURATION = """
heartbeat_seconds = 0.3

[access]
algorithms = ["HS256"]
key_file = "jwt.key"

[streams.mine]
namespace = "guarded.orders"
require = { role = "customer" }
filter = { secret = { "$exists" = false } }
"""


@pytest.fixture(scope="module")
def server(start_guarded: Callable[..., ServerProcess], orders) -> ServerProcess:
    orders.database.create_collection("orders", changeStreamPreAndPostImages={"enabled": True})
    orders.insert_many([{"_id": 1, "status": "new"}, {"_id": 2, "secret": 1}])
    return start_guarded(CONFIGURATION)


@pytest.fixture(scope="module")
def token(mint: Mint) -> str:
    return mint(sub="u7", role="customer", seconds=3600)


def test_guarded_server_keeps_every_rule(server, token, sandbox, capsys):
    options = ["--mongo", sandbox.uri, "--token", token, "--keep-alive-seconds", "2"]
    status = main([server.url, *options])
    printed = capsys.readouterr().out
    assert (status, judged(printed)) == (0, {rule.name: "ok" for rule in RULES}), printed
    assert token not in printed


def let_in(token: str) -> Lie:
    """Sends everybody's requests with the token."""
    header = f"Authorization: Bearer {token}\r\n".encode()
    return lambda request: without(rb"Authorization: [^\r]*\r\n")(request).replace(
        b"\r\n", b"\r\n" + header, 1
    )


def test_guard_that_sleeps_is_found_out(server, token, capsys):
    lies: list[tuple[dict[str, Lie], set[str]]] = [
        ({"request": let_in(token)}, {"no-token", "bad-token", "not-listed"}),
        ({"answer": without(rb"W[wW][wW]-Authenticate: Bearer\r\n")}, {"no-token", "bad-token"}),
        ({"answer": changed(rb"unauthenticated", b"unauthorized")}, {"no-token"}),
        ({"answer": changed(rb'"token-invalid"', b'"unauthenticated"')}, {"bad-token"}),
        ({"request": without(rb"Authorization: [^\r]*\r\n")}, {"bad-token", "not-listed"}),
    ]
    rules = [word for rule in RULES if rule.needs is Needs.GUARD for word in ("--rule", rule.name)]
    for lie, expected in lies:
        with LyingProxy(server.port, **lie) as proxy:
            status = main([proxy.url, "--collection", "mine", "--token", token, *rules])
        found = judged(capsys.readouterr().out)
        assert (status, {name for name, word in found.items() if word == "BREACH"}) == (1, expected)
