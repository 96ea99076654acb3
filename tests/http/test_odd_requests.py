"""Requests that are odd, and those of health checks."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from tests.support.odd_requests import answer, serving


def asked(request: bytes, **options) -> bytes:
    async def scenario() -> bytes:
        async with serving(**options) as port:
            return await answer(port, request)

    return asyncio.run(scenario())


@pytest.mark.parametrize("announced", [b"Content-Length: 50000", b"Transfer-Encoding: chunked"])
def test_body_that_never_comes_holds_nothing_for_ever(announced):
    request = b"POST /stream HTTP/1.1\r\nHost: localhost\r\n" + announced + b"\r\n\r\nabc"
    assert asked(request, request_timeout_seconds=0.1) == b""


@pytest.mark.parametrize("path", ["/static/%00", "/static/page.js%00", "/static/%00/page.js"])
def test_file_with_a_zero_in_its_name_is_not_found(path, caplog):
    reply = asked(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert reply.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("path", ["/", "/static/page.js", "/healthz", "/readyz"])
def test_head_says_what_get_would(path):
    def head_of(method: str) -> list[bytes]:
        reply = asked(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        head, _, body = reply.partition(b"\r\n\r\n")
        assert bool(body) == (method == "GET")
        return sorted(line for line in head.split(b"\r\n") if not line.startswith(b"Date:"))

    assert head_of("HEAD") == head_of("GET")
    assert b"HTTP/1.1 200 OK" in head_of("HEAD")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/stream", b"GET, POST, OPTIONS"), ("/healthz", b"GET, HEAD, OPTIONS"), ("/", b"GET, HEAD, OPTIONS")],
)
def test_other_methods_are_refused_with_a_list_of_those_that_are_not(path, allowed):
    reply = asked(f"DELETE {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert reply.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
    assert b"\r\nAllow: " + allowed + b"\r\n" in reply


@pytest.mark.parametrize("name", ["Authorization", "Last-Event-ID", "Cookie"])
def test_value_of_a_malformed_header_is_not_logged(name, caplog):
    caplog.set_level(logging.INFO)
    request = f"GET /stream HTTP/1.1\r\nHost: localhost\r\n{name}: hunter2\x01\r\n\r\n".encode()
    assert asked(request).startswith(b"HTTP/1.1 400 ")
    assert "hunter2" not in caplog.text
    assert "Malformed HTTP message from 127.0.0.1" in caplog.text


def test_second_request_behind_that_of_a_stream_ends_it():
    """A stream has no end after which the second could be answered."""
    request = b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert asked(request * 2).count(b"HTTP/1.1 200 OK") == 1


def test_bodies_that_never_come_are_given_up_together_however_many_there_are():
    request = b"POST /stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000\r\n\r\n"

    async def scenario() -> None:
        async with serving(request_timeout_seconds=0.5) as port:
            before = asyncio.get_running_loop().time()
            answers = [answer(port, request + b"x" * number) for number in range(300)]
            assert set(await asyncio.gather(*answers)) == {b""}
            assert asyncio.get_running_loop().time() - before < 10

    asyncio.run(scenario())


@pytest.mark.parametrize("path", ["/stream?filter=", "/static/", "/documents/x?filter="])
def test_url_that_is_too_long_is_refused_in_words(path):
    def asked_with(length: int) -> bytes:
        url = path.encode().ljust(length, b"x")
        request = b"GET " + url + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        return asked(request, url_max_bytes=1000)

    assert asked_with(1001).startswith(b"HTTP/1.1 414 ")
    assert b'"code": "uri-too-long"' in asked_with(1001)
    assert not asked_with(1000).startswith(b"HTTP/1.1 414 ")


@pytest.mark.parametrize("size", [1024, 64 * 1024])
def test_head_that_is_too_long_is_not_read(size, caplog):
    head = b"GET /stream HTTP/1.1\r\nHost: localhost\r\nX-Long: "
    assert asked(head.ljust(size + 100, b"x") + b"\r\n\r\n", header_max_bytes=size) == b""
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_silent_connection_is_closed():
    async def scenario() -> None:
        async with serving(request_timeout_seconds=0.1) as port:
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.setblocking(False)
                client.send(b"GET / HT")
                async with asyncio.timeout(20):
                    assert await asyncio.get_running_loop().sock_recv(client, 1) == b""

    asyncio.run(scenario())
