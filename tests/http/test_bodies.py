"""Bodies above the bound: the refusal reaches the client while it still sends, in bounded time."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from contextlib import suppress

import pytest

from handlers.bodies import BODY_MAX_BYTES, DISCARDED_MAX_BYTES
from tests.support.certificates import Authority
from tests.support.odd_requests import answer, serving

LARGE = (BODY_MAX_BYTES + 1024, 2**20)

HEAD = b"POST /stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def chunks(size: int) -> bytes:
    """A body of several chunks, the last of them whole."""
    piece = b"%x\r\n%b\r\n" % (1024, b"x" * 1024)
    return piece * (size // 1024) + b"0\r\n\r\n"


REQUESTS = {
    "announced": lambda size: HEAD + b"Content-Length: %d\r\n\r\n" % size + b"x" * size,
    "chunked": lambda size: HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks(size),
    "expecting": lambda size: (
        HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    ),
}


def said(port: int, request: bytes, tls: ssl.SSLContext | None = None) -> bytes:
    """All that a client receives that sends everything before it reads. Raises if a byte is lost."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as bare,
        tls.wrap_socket(bare, server_hostname="localhost") if tls else bare as client,
    ):
        client.sendall(request)
        received = b""
        while data := client.recv(65536):
            received += data
        return received


def check_refusal(received: bytes) -> None:
    assert received.count(b"HTTP/1.1 ") == 1, received
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    lines = head.split(b"\r\n")
    assert {b"Connection: close", b"Content-Type: application/problem+json"} <= set(lines)
    assert b"Access-Control-Allow-Origin: *" in lines, "a page of another origin can read it, too"
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (413, "body-too-large")
    assert "65,536 bytes" in problem["detail"]


@pytest.mark.parametrize("size", LARGE)
@pytest.mark.parametrize("kind", REQUESTS)
def test_refusal_of_a_large_body_is_received_each_time(kind, size):
    async def scenario() -> None:
        async with serving() as port:
            for _ in range(50):
                check_refusal(await asyncio.to_thread(said, port, REQUESTS[kind](size)))

    asyncio.run(scenario())


@pytest.mark.parametrize("size", LARGE)
def test_refusal_is_received_over_https(size, tmp_path):
    authority = Authority(tmp_path)
    certificate, key = map(str, authority.issue("first"))

    async def scenario() -> None:
        async with serving(tls_cert=certificate, tls_key=key) as port:
            for _ in range(10):
                request = REQUESTS["announced"](size)
                check_refusal(await asyncio.to_thread(said, port, request, authority.trusted()))

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["announced", "chunked"])
def test_body_at_the_bound_is_read(kind):
    async def scenario() -> None:
        async with serving() as port:
            request = REQUESTS[kind](BODY_MAX_BYTES).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
            # The demo has no streams to put into a bundle.
            assert b'"code": "unknown-stream"' in await answer(port, request)

    asyncio.run(scenario())


def test_client_that_waits_for_permission_is_refused_before_it_sends():
    head, _, _ = REQUESTS["expecting"](2**30 // 1024).partition(b"\r\n\r\n")

    async def scenario() -> None:
        async with serving(request_timeout_seconds=0.2) as port:
            check_refusal(await answer(port, head + b"\r\n\r\n"))

    asyncio.run(scenario())


def test_client_that_waits_for_permission_gets_it_for_a_small_body():
    head = HEAD + b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: 4\r\n\r\n"

    async def scenario() -> None:
        async with serving() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
            writer.write(b"null")
            assert b'"code": "unknown-stream"' in await reader.read()
            writer.close()

    asyncio.run(scenario())


def sent_for_ever(port: int, head: bytes, piece: bytes, pause: float) -> tuple[int, float]:
    """Send a body that never ends. Returns the number of bytes, and the seconds until it is cut off."""
    began = time.monotonic()
    count = 0
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(head)
        with suppress(ConnectionError):
            while time.monotonic() - began < 20:
                client.sendall(piece)
                count += len(piece)
                time.sleep(pause)
    return count, time.monotonic() - began


PIECE = b"%x\r\n%b\r\n" % (65536, b"x" * 65536)


@pytest.mark.parametrize(
    ("framing", "piece"),
    [(b"Content-Length: 999999999999", b"x" * 65536), (b"Transfer-Encoding: chunked", PIECE)],
)
def test_body_that_never_ends_is_cut_off_after_some_bytes(framing, piece):
    async def scenario() -> None:
        async with serving() as port:
            head = HEAD + framing + b"\r\n\r\n"
            count, seconds = await asyncio.to_thread(sent_for_ever, port, head, piece, 0)
            # The kernel takes more than the server has read.
            assert DISCARDED_MAX_BYTES <= count < DISCARDED_MAX_BYTES + 64 * 2**20
            assert seconds < 10

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("framing", "piece"),
    [(b"Content-Length: 999999999999", b"x"), (b"Transfer-Encoding: chunked", b"1\r\nx\r\n")],
)
def test_body_that_drips_for_ever_is_cut_off_in_time(framing, piece):
    async def scenario() -> None:
        async with serving(request_timeout_seconds=0.3) as port:
            head = HEAD + framing + b"\r\n\r\n"
            _, seconds = await asyncio.to_thread(sent_for_ever, port, head, piece, 0.01)
            assert seconds < 10

    asyncio.run(scenario())


def test_host_is_checked_before_the_body():
    foreign = REQUESTS["announced"](LARGE[0]).replace(b"Host: localhost", b"Host: evil.example")

    async def scenario() -> None:
        async with serving() as port:
            assert (await asyncio.to_thread(said, port, foreign)).startswith(b"HTTP/1.1 421 ")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 999999\r\nTransfer-Encoding: chunked",
        b"Content-Length: -1",
        b"Content-Length: 1e9",
        b"Content-Length: 99999, 99998",
        b"Content-Length: " + b"9" * 5000,
    ],
)
def test_body_of_which_nobody_knows_the_end_gets_one_answer(framing):
    async def scenario() -> None:
        async with serving() as port:
            received = await answer(port, HEAD + framing + b"\r\n\r\n")
            assert received == b"HTTP/1.1 400 Bad Request\r\n\r\n"

    asyncio.run(scenario())
