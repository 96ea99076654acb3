"""One connection of a client: HTTP, chunks, gzip, and blocks of an event stream."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any, Protocol


class Reader(Protocol):
    """The client that a connection reads for."""

    def opened(self) -> None:
        """The head of the answer has come."""

    def block(self, lines: list[bytes]) -> None:
        """A block has come."""

    def failed(self, why: str) -> None:
        """Something has come that no client can use."""

    def ended(self) -> None:
        """The connection is over."""


class Connection(asyncio.Protocol):
    """Asks for a path, and hands each block to its reader."""

    def __init__(
        self, reader: Reader, path: str, http: str, coding: str, last_id: str, token: str = ""
    ) -> None:
        self._reader = reader
        last = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
        bearer = f"Authorization: Bearer {token}\r\n" if token else ""
        self._request = (
            f"GET {path} HTTP/{http}\r\nHost: localhost\r\nAccept-Encoding: {coding}\r\n{bearer}{last}\r\n"
        ).encode()
        self._transport: asyncio.Transport | None = None
        self._in_head = True
        self._chunked = False
        self._inflate: Any = None
        self._raw = b""
        self._text = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        self._reader.ended()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def rest(self) -> None:
        """Read no more."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def go_on(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._in_head:
            head, found, data = (self._raw + data).partition(b"\r\n\r\n")
            self._raw = b"" if found else head
            if not found:
                return
            if not self._read_head(head.decode().lower()):
                return
        try:
            body = self._unchunked(data) if self._chunked else data
            self._read(self._inflate.decompress(body) if self._inflate else body)
        except (ValueError, zlib.error) as error:
            self._fail(repr(error))

    def _fail(self, why: str) -> None:
        self._reader.failed(why)
        self.abort()

    def _read_head(self, head: str) -> bool:
        status, *fields = head.split("\r\n")
        if status.split()[1] != "200":
            self._fail(head)
            return False
        self._in_head = False
        self._chunked = "transfer-encoding: chunked" in fields
        self._inflate = zlib.decompressobj(31) if "content-encoding: gzip" in fields else None
        self._reader.opened()
        return True

    def _unchunked(self, data: bytes) -> bytes:
        raw = self._raw + data
        pieces = []
        at = 0
        while (end := raw.find(b"\r\n", at)) >= 0:
            size = int(raw[at:end], 16)
            if len(raw) < end + 2 + size + 2:
                break
            pieces.append(raw[end + 2 : end + 2 + size])
            at = end + 2 + size + 2
            if size == 0 and self._transport is not None:
                self._transport.close()
        self._raw = raw[at:]
        return b"".join(pieces)

    def _read(self, text: bytes) -> None:
        *blocks, self._text = (self._text + text).split(b"\n\n")
        for block in blocks:
            self._reader.block(block.split(b"\n"))
