"""The `Host` of a request: whose server it asks for, and which names are refused."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from brook.settings import Settings
from handlers.hosts import Hosts
from tests.support.server import serving

FOREIGN = [
    "evil.example", "evil.example:3333", "localhost.evil.example", "127.0.0.1.evil.example", "evil", "127.1",
    "localhostt", "x.localhost.evil.example.", "xn--lcalhost-61a",
]  # fmt: skip
OURS = [
    "localhost", "localhost:3333", "LocalHost", "localhost.", "app.localhost:3333", "127.0.0.1",
    "127.0.0.1:1",
    "127.1.2.3", "[::1]", "[::1]:3333", "192.0.2.7", "[2001:db8::7]:80",
]  # fmt: skip


async def answer(port: int, request: str, *, at_once: bool = True) -> bytes:
    """The beginning of the answer to a request that arrives with its connection, or after it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        data = request.encode()
        if not at_once:
            writer.write(data[:1])
            await asyncio.sleep(0.01)
            data = data[1:]
        writer.write(data)
        async with asyncio.timeout(20):
            head = await reader.readuntil(b"\r\n\r\n")
            return head + await reader.read(65536)
    finally:
        writer.close()


def asked(request: str, *, at_once: bool = True, **options) -> bytes:
    async def scenario() -> bytes:
        async with serving(**options) as server:
            return await answer(server.port, request, at_once=at_once)

    return asyncio.run(scenario())


def get(path: str, host: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"


@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize("at_once", [True, False])
def test_name_that_is_not_of_this_machine_reads_no_stream(host, at_once):
    reply = asked(get("/stream", host), at_once=at_once)
    assert reply.startswith(b"HTTP/1.1 421 Misdirected Request\r\n")
    assert b"Access-Control-Allow-Origin" not in reply
    body = json.loads(reply.partition(b"\r\n\r\n")[2])
    assert body["code"] == "foreign-host"
    name = host.partition(":")[0]
    assert f"--allowed-host {name}" in body["detail"]


@pytest.mark.parametrize(
    "path", ["/", "/static/page.js", "/stream/x", "/documents/x", "/healthz", "/readyz", "/nothing"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
def test_name_that_is_not_of_this_machine_gets_nothing_else(path, method):
    reply = asked(f"{method} {path} HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 421 ")


@pytest.mark.parametrize("host", OURS)
def test_this_machine_is_asked_by_its_names_and_every_address(host):
    assert asked(get("/stream", host)).startswith(b"HTTP/1.1 200 ")


def test_client_of_http_1_0_may_name_no_host():
    assert asked("GET /stream HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_configured_names_are_answered_in_any_case_and_no_others():
    options = {"allowed_host": ("brook.example.org", "Brook.local")}
    for host in ("brook.example.org", "BROOK.example.org:443", "brook.LOCAL", "localhost"):
        assert asked(get("/healthz", host), **options).startswith(b"HTTP/1.1 200 ")
    for host in ("example.org", "x.brook.example.org", "evil.example"):
        assert asked(get("/healthz", host), **options).startswith(b"HTTP/1.1 421 ")


@pytest.mark.parametrize(
    ("host", "allowed", "answered"),
    [
        ("localhost", (), False),
        ("127.0.0.1", (), False),
        ("127.0.0.2", (), False),
        ("::1", (), False),
        ("0.0.0.0", (), True),
        ("::", (), True),
        ("192.0.2.7", (), True),
        ("0.0.0.0", ("brook.example.org",), False),
        ("localhost", ("*",), True),
    ],
)
def test_names_are_checked_on_loopback_and_wherever_names_are_configured(host, allowed, answered):
    hosts = Hosts.of(Settings(host=host, allowed_host=allowed))
    assert hosts.has("evil.example") == answered
    assert hosts.has("localhost")


def test_name_that_the_server_listens_at_is_its_own(monkeypatch):
    def found(*_: object, **__: object) -> list:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    hosts = Hosts.of(Settings(host="dev.example.org"))
    assert hosts.has("dev.example.org")
    assert not hosts.has("evil.example")


def test_metrics_on_their_own_port_are_not_for_foreign_names_either(start_server):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    start_server("--demo", "--metrics-port", str(port))
    reply = asyncio.run(
        answer(port, "GET /metrics HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
    )
    assert reply.startswith(b"HTTP/1.1 421 ")
