"""A client on a bare socket, with a parser of its own: it can be slow, rude, and exact about bytes."""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self


@dataclass
class Received:
    """One dispatched event, and the last event id that a browser would then have."""

    event: str
    data: str
    id: str


@dataclass
class Parser:
    """The standard's parsing steps, fed with bytes however they are cut."""

    last_id: str = ""
    retry: int | None = None
    comments: int = 0
    blocks: list[list[str]] = field(default_factory=list)
    _buffer: bytes = b""
    _block: list[str] = field(default_factory=list)

    def feed(self, data: bytes) -> list[Received]:
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        return [event for line in lines if (event := self._line(line.decode())) is not None]

    def _line(self, line: str) -> Received | None:
        if line:
            self._block.append(line)
            return None
        block, self._block = self._block, []
        self.blocks.append(block)
        event, data = "message", []
        for row in block:
            name, _, value = row.partition(":")
            value = value.removeprefix(" ")
            match name:
                case "":
                    self.comments += 1
                case "id":
                    self.last_id = value
                case "event":
                    event = value
                case "data":
                    data.append(value)
                case "retry":
                    self.retry = int(value)
                case _:
                    raise AssertionError(f"no field of the standard: {row!r}")
        return Received(event, "\n".join(data), self.last_id) if data else None


class RawClient:
    """One connection to a stream."""

    def __init__(
        self,
        port: int,
        path: str = "/stream",
        *,
        last_id: str = "",
        http: str = "1.1",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.port = port
        self.more_headers = headers or {}
        self.body = body
        self.tls = tls
        self.path = path
        self.last_id = last_id
        self.http = http
        self.status = 0
        self.headers: dict[str, str] = {}
        self.parser = Parser()
        self.parser.last_id = last_id
        self.events: list[Received] = []
        self.raw = b""
        """The body, without its framing and compression."""
        self._gzip = zlib.decompressobj(31)
        self._pending: list[Received] = []
        self._connected = False

    async def connect(self) -> Self:
        """Send the request and read the response's head."""
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self.port, limit=2**24, ssl=self.tls
        )
        self._connected = True
        method = "POST" if self.body else "GET"
        lines = [f"{method} {self.path} HTTP/{self.http}", "Host: 127.0.0.1"]
        lines += [f"{name}: {value}" for name, value in self.more_headers.items()]
        if self.body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(self.body)}"]
        if self.last_id:
            lines.append(f"Last-Event-ID: {self.last_id}")
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + self.body)
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *rows = head.decode().strip().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value for name, _, value in (row.partition(": ") for row in rows)}
        return self

    async def read(self) -> bool:
        """Read one piece of the body. False: it has ended."""
        if self.headers.get("transfer-encoding") == "chunked":
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            data = (await self.reader.readexactly(size + 2))[:-2]
        else:
            data = await self.reader.read(65536)
        ended = not data
        if self.headers.get("content-encoding") == "gzip":
            data = self._gzip.decompress(data)
        self.raw += data
        received = self.parser.feed(data)
        self.events += received
        self._pending += received
        return not ended

    async def next(self, seconds: float = 20) -> Received:
        """The next event that was not returned yet."""
        async with asyncio.timeout(seconds):
            while not self._pending:
                if not await self.read():
                    raise AssertionError(f"the stream ended; it had {self.events[-5:]}")
        return self._pending.pop(0)

    async def opened(self, seconds: float = 20) -> Self:
        """Wait for the opening: from then on nothing is missed."""
        async with asyncio.timeout(seconds):
            while self.parser.retry is None:
                assert await self.read()
        return self

    def close(self) -> None:
        """Leave without a word."""
        if self._connected:
            self.writer.transport.abort()
