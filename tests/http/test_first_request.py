"""The short way of a connection's first request to a stream: the client cannot tell which way it went."""

from __future__ import annotations

import asyncio
import re
from contextlib import closing

import pytest

from handlers import first_request
from handlers.stream import StreamHandler
from tests.support.fakes import until
from tests.support.server import Server, serving

HOST = "Host: localhost\r\n"


async def answer(server: Server, request: bytes, *, at_once: bool) -> bytes:
    """What comes for a request that arrives with its connection, or in two pieces."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    with closing(writer):
        if at_once:
            writer.write(request)
        else:
            writer.write(request[:-2])
            # Tornado has it, as soon as it is accepted.
            await until(lambda: len(server.http._requests._since) == 1)
            writer.write(request[-2:])
        async with asyncio.timeout(20):
            received = await reader.readuntil(b"\r\n\r\n")
            if length := re.search(rb"Content-Length: (\d+)", received):
                received += await reader.readexactly(int(length[1]))
            else:
                received += await reader.read(65536)
    await until(lambda: len(server.list) == 0)
    return received


def comparable(received: bytes) -> list[bytes]:
    head, _, body = received.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith((b"Date:", b"Etag:"))]
    lines = [line for line in lines if line != b"Connection: close"]
    return [lines[0], *sorted(lines[1:]), re.sub(rb"retry: \d+", b"retry: n", body)]


REQUESTS = {
    "stream": "GET /stream HTTP/1.1\r\n" + HOST,
    "compressed": "GET /stream HTTP/1.1\r\nAccept-Encoding: gzip\r\n" + HOST,
    "HTTP/1.0": "GET /stream HTTP/1.0\r\n",
    "since": "GET /stream?since=000095 HTTP/1.1\r\n" + HOST,
    "header": "GET /stream HTTP/1.1\r\nLast-Event-ID: 000098\r\n" + HOST,
    "garbage in the header": "GET /stream HTTP/1.1\r\nLast-Event-ID: nonsense\r\n" + HOST,
    "invalid id": "GET /stream?since=nonsense HTTP/1.1\r\n" + HOST,
    "unknown parameter": "GET /stream?sinse=1 HTTP/1.1\r\n" + HOST,
    "unknown stream": "GET /stream/otters HTTP/1.1\r\n" + HOST,
    "no UTF-8 in the name": "GET /stream/%ff HTTP/1.1\r\n" + HOST,
    "another path": "GET /streams HTTP/1.1\r\n" + HOST,
    "a path below": "GET /stream/a/b HTTP/1.1\r\n" + HOST,
    "a bug": "GET /stream?since=a%20bug HTTP/1.1\r\n" + HOST,
    "continued header": "GET /stream HTTP/1.1\r\nX-Long: a\r\n b\r\n" + HOST,
}


@pytest.mark.parametrize("name", REQUESTS)
def test_answer_is_the_same_on_both_ways(name, caplog):
    request = REQUESTS[name].encode() + b"\r\n"

    async def scenario() -> None:
        async with serving() as server:
            short = await answer(server, request, at_once=True)
            long = await answer(server, request, at_once=False)
            assert comparable(short) == comparable(long)

    asyncio.run(scenario())
    if name == "a bug":
        assert caplog.text.count("GET /stream failed") == 2


def test_stream_is_refused_in_the_same_way_on_both(caplog):
    request = f"GET /stream HTTP/1.1\r\n{HOST}\r\n".encode()

    async def scenario() -> None:
        async with serving() as server:
            server.service.readiness.drain()
            short = await answer(server, request, at_once=True)
            long = await answer(server, request, at_once=False)
            assert comparable(short) == comparable(long)
            assert b"event: problem\n" in short

    asyncio.run(scenario())


def test_request_that_comes_with_its_connection_goes_the_short_way(monkeypatch):
    opened = []
    monkeypatch.setattr(StreamHandler, "get", lambda *_: opened.append("the long way"))

    async def scenario() -> None:
        async with serving() as server:
            await answer(server, f"GET /stream HTTP/1.1\r\n{HOST}\r\n".encode(), at_once=True)

    asyncio.run(scenario())
    assert opened == []


@pytest.mark.parametrize(
    "waiting",
    [
        b"",
        b"GET /stream HTTP/1.1\r\n",
        b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n",
        b"GET /stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n",
        b"GET /stream HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /stream HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\r\n",
        b"GET /stream HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /stream HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET /stream HTTP/1.1\r\nHost: a\r\nHost: b/c\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /stream HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /stream HTTP/1.1\r\nX: " + b"x" * first_request.MAX_BYTES + b"\r\n\r\n",
    ],
    ids=lambda waiting: repr(waiting[:60]),
)
def test_what_is_not_plain_stays_in_the_socket(waiting):
    class Socket:
        """A socket in which something waits; reading it for good is an error."""

        def recv(self, size: int, flags: int = 0) -> bytes:
            assert flags, "it was taken out of the socket"
            return waiting[:size]

    assert not first_request.served(Socket(), ("127.0.0.1", 1), None)
