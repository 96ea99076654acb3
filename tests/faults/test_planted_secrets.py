"""Secrets planted wherever one can come in: none of them is in anything that the server has written."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jwt
import pytest

from sources.sandbox import Node
from tests.support import mongods
from tests.support.answering import AnsweringServer
from tests.support.certificates import Authority
from tests.support.processes import ROOT, ServerProcess

PASSWORD = "planted-password-93"
SIGNING_KEY = "planted-signing-key-that-is-long-enough-41"
PLANTED = "planted-value-57"
"""In headers, paths, queries and bodies of requests, and in documents."""

CONFIGURATION = """
[access]
algorithms = ["HS256"]
key_file = "jwt.key"
cookie = "session"
query_token = true

[streams.mine]
namespace = "shop.orders"
filter = { owner = "$claims.sub" }
client_filter = ["status"]
"""

pytestmark = pytest.mark.mongod


@pytest.fixture(scope="module")
def node(tmp_path_factory) -> Iterator[Node]:
    users = {"brook": [{"role": "readWrite", "db": "shop"}]}
    with mongods.guarded(tmp_path_factory.mktemp("guarded"), PASSWORD, users) as (node, root):
        root.shop.orders.insert_one({"_id": PLANTED + "-id", "owner": "u7", "text": PLANTED})
        yield node


def uri(node: Node, password: str = PASSWORD) -> str:
    return f"mongodb://brook:{password}@127.0.0.1:{node.port}/shop?replicaSet=sandbox&authSource=admin"


def environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("BROOK_")} | more


def requests(token: str) -> list[bytes]:
    """Good ones and bad ones."""
    bad = [token[:-4] + "AAAA", PLANTED, jwt.encode({"sub": PLANTED, "exp": 1}, SIGNING_KEY, "HS256")]
    paths = ["/stream/mine", "/documents/mine", "/stream/mine?mode=live", f"/stream/{PLANTED}", f"/{PLANTED}"]
    headers = [f"Authorization: Bearer {one}" for one in (token, *bad)]
    headers += [f"Authorization: Basic {PLANTED}", f"Authorization: {PLANTED}", f"X-Odd: {PLANTED}"]
    headers += [f"Cookie: session={one}" for one in (token, *bad)]
    lines = [f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}" for path in paths for header in headers]
    query = [f"access_token={quote(one)}" for one in (token, *bad)]
    query += [f"filter={quote(text)}" for text in (f'{{"status":"{PLANTED}"', f'{{"{PLANTED}":1}}')]
    query += [f"{PLANTED}=1", f"since={PLANTED}", f"mode={PLANTED}", f"access_token={token}&ns={PLANTED}"]
    lines += [f"GET {path}?{each} HTTP/1.1\r\nHost: localhost" for path in paths[:2] for each in query]
    good = f"Authorization: Bearer {token}"
    lines += [
        f"GET /stream/mine HTTP/1.1\r\nHost: localhost\r\n{good}\r\nLast-Event-ID: {PLANTED}",
        f"GET /stream/mine HTTP/1.1\r\nHost: {PLANTED}\r\n{good}",
        f"GET /stream/mine HTTP/1.1\r\nHost: localhost\r\n{PLANTED}",
        f"GET /stream/mine?access_token={token} {PLANTED}",
        f"{PLANTED} /stream/mine HTTP/1.1\r\nHost: localhost",
        f"POST /stream HTTP/1.1\r\nHost: localhost\r\n{good}\r\nContent-Length: {PLANTED}",
        f"POST /stream HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: {PLANTED}",
        f"GET /static/%00{PLANTED} HTTP/1.1\r\nHost: localhost",
        f"GET /stream/%ff{PLANTED}?%ff={PLANTED} HTTP/1.1\r\nHost: localhost\r\n{good}",
    ]
    large = 100_000
    too_large = f"{good}\r\nContent-Length: {large}\r\n\r\n{PLANTED * (large // len(PLANTED) + 1)}"[:large]
    lines.append(f"POST /stream HTTP/1.1\r\nHost: localhost\r\n{too_large}")
    body = f'{{"streams":[{{"name":"{PLANTED}"}}],"token":"{token}"'
    kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}"
    posted = f"POST /stream HTTP/1.1\r\nHost: localhost\r\n{good}\r\n{kind}\r\n\r\n{body}".encode()
    return [posted, *(line.encode() + b"\r\n\r\n" for line in lines)]


def ask(port: int, request: bytes, trusted: ssl.SSLContext | None) -> bytes:
    """The beginning of the answer; then the client leaves."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        if trusted is not None:
            client = trusted.wrap_socket(client, server_hostname="localhost")
        with client:
            client.sendall(request)
            try:
                return client.recv(65536)
            except ConnectionResetError:
                return b""


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("encrypted", [True, False], ids=["https", "http"])
def test_no_line_of_the_log_holds_a_planted_secret(log_format, encrypted, node, tmp_path, start_server):
    authority = Authority(tmp_path)
    certificate, key = authority.issue("first")
    (tmp_path / "jwt.key").write_text(SIGNING_KEY)
    (tmp_path / "brook.toml").write_text(CONFIGURATION)
    tls = ("--tls-cert", str(certificate), "--tls-key", str(key)) if encrypted else ()
    server: ServerProcess = start_server(
        "--config", str(tmp_path / "brook.toml"), "--log-format", log_format, *tls,
        env=environment(BROOK_MONGO=uri(node)),
    )  # fmt: skip
    trusted = authority.trusted() if encrypted else None
    token = jwt.encode({"sub": "u7", "exp": time.time() + 600, "note": PLANTED}, SIGNING_KEY, "HS256")
    answers = [ask(server.port, request, trusted) for request in requests(token)]
    statuses = {answer[9:12] for answer in answers if answer}
    assert {b"200", b"401", b"404", b"400"} <= statuses
    assert b"500" not in statuses
    # The last one is seen to have been handled, so that its line is not missed.
    lines = key.read_text().splitlines()
    if encrypted:
        key.write_text("\n".join(lines[1:]))
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("the certificate in use stays")
    server.stop()
    written = "\n".join(server.log)
    assert "client left" in written
    forbidden = [PASSWORD, SIGNING_KEY, PLANTED, quote(uri(node)), token.split(".")[2], token.split(".")[1]]
    for secret in [*forbidden, *lines[1:-1]]:
        assert secret not in written, [line for line in server.log if secret in line][:3]
    assert "Traceback" not in written


OTHERS = """
[access]
algorithms = ["RS256"]
jwks_url = "http://brook:{password}@{address}keys?{planted}"
authorize_url = "http://brook:{password}@{address}brook?{planted}"

[streams.mine]
namespace = "shop.orders"
filter = {{ owner = "$claims.sub" }}
"""


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_line_about_other_servers_holds_a_planted_secret(log_format, node, tmp_path, start_server):
    """Addresses have passwords, cookies are passed on, and an answer can hold anything."""
    answers: list[tuple[int, Any]] = [
        (200, PLANTED.encode()), (500, PLANTED.encode()), (302, {"keys": PLANTED}), (200, {PLANTED: PLANTED}),
        (200, {"keys": [{"kty": "RSA", "kid": PLANTED, "n": PLANTED, "e": PLANTED}]}),
        (200, {"claims": {"sub": PLANTED}, "seconds": PLANTED}), (403, {}), (401, {"detail": PLANTED}),
        (200, {"claims": {"sub": {PLANTED: 1}}, "seconds": 60}),
        (200, {"claims": {"sub": PLANTED}, "seconds": 60}),
    ]  # fmt: skip
    with AnsweringServer() as others:
        others.status, others.body = answers[0]
        text = OTHERS.format(password=PASSWORD, planted=PLANTED, address=others.url.removeprefix("http://"))
        (tmp_path / "brook.toml").write_text(text)
        server: ServerProcess = start_server(
            "--config", str(tmp_path / "brook.toml"), "--log-format", log_format,
            env=environment(BROOK_MONGO=uri(node)),
        )  # fmt: skip
        token = jwt.encode({"sub": PLANTED, "exp": time.time() + 600}, SIGNING_KEY, "HS256", {"kid": PLANTED})
        statuses = set()
        for status, answer in answers:
            others.status, others.body = status, answer
            for header in (f"Authorization: Bearer {token}", f"Cookie: session={PLANTED}"):
                request = f"GET /stream/mine HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n"
                statuses.add(ask(server.port, request.encode(), None)[9:12])
        assert {b"200", b"401", b"403"} <= statuses
        assert others.asked
        server.stop()
    written = "\n".join(server.log)
    assert "jwks_url cannot be fetched" in written
    assert "authorize_url fails" in written
    for secret in (PASSWORD, PLANTED, token.split(".")[2]):
        assert secret not in written, [line for line in server.log if secret in line][:3]
    assert "Traceback" not in written


def failed_start(folder: Path, *arguments: str, **variables: str) -> str:
    command = [sys.executable, str(ROOT / "server.py"), "--port", "0", "--collection", "orders", *arguments]
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(**variables),
        cwd=folder,
        check=False,
    )
    assert ended.returncode in (1, 2)
    return ended.stdout + ended.stderr


def test_no_error_at_the_start_holds_a_planted_secret(node, tmp_path):
    authority = Authority(tmp_path)
    certificate, key = authority.issue("first")
    cases: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        ((), {"BROOK_MONGO": uri(node, "planted-wrong-1")}),
        (("--log-format", "json"), {"BROOK_MONGO": uri(node, "planted-wrong-1")}),
        ((), {"BROOK_MONGO": uri(node, "planted@wrong/1?")}),
        ((), {"BROOK_MONGO": uri(node) + "&planted=planted-wrong-1&tls=planted-wrong-1"}),
        ((), {"BROOK_MONGO": uri(node), "BROOK_DATABASE": "elsewhere"}),
        (("--check",), {"BROOK_MONGO": uri(node, "planted-wrong-1")}),
        (("--tls-cert", str(key), "--tls-key", str(certificate)), {"BROOK_MONGO": uri(node)}),
        (("--tls-cert", str(certificate), "--tls-key", str(authority.path)), {"BROOK_MONGO": uri(node)}),
    ]
    for arguments, variables in cases:
        said = failed_start(tmp_path, *arguments, **variables)
        for secret in (
            PASSWORD,
            "planted-wrong-1",
            "planted@",
            "wrong/1",
            *key.read_text().splitlines()[1:-1],
        ):
            assert secret not in said, said
        assert "Traceback" not in said
