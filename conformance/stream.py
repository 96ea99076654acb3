"""One open stream, block by block, as its bytes arrive."""

from __future__ import annotations

import http.client
import json
import queue
import socket
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from conformance.target import Query, Target, lower

FIELDS = ("id", "event", "data", "retry")


class Silence(Exception):
    """Nothing came in time, or the stream has ended."""


@dataclass(frozen=True, slots=True)
class Block:
    """The lines up to an empty line, as they were sent."""

    lines: tuple[str, ...]
    at: float

    def field(self, name: str) -> str | None:
        """The value of a field; the last one if it is repeated, None if it is not there."""
        values = [line.partition(":")[2].removeprefix(" ") for line in self.lines if self._is(line, name)]
        return values[-1] if values else None

    @property
    def id(self) -> str | None:
        return self.field("id")

    @property
    def event(self) -> str:
        return self.field("event") or "message"

    @property
    def is_event(self) -> bool:
        return self.field("data") is not None

    @property
    def data(self) -> Any:
        """The data, parsed; text if it is no JSON."""
        text = self.field("data") or ""
        try:
            return json.loads(text)
        except ValueError:
            return text

    @staticmethod
    def _is(line: str, name: str) -> bool:
        return line == name or line.startswith(f"{name}:")


class Stream:
    """A stream that is read by a thread of its own, so that a wait can end and be taken up again."""

    def __init__(
        self,
        target: Target,
        path: str,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> None:
        self.raw = b""
        self.blocks: list[Block] = []
        self._blocks: queue.Queue[Block | None] = queue.Queue()
        self._seconds = target.timeout_seconds
        self._connection = target.connect()
        self._connection.connect()
        self._socket: socket.socket = self._connection.sock
        all_headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity", **(headers or {})}
        if body is None:
            self._response = target.send(self._connection, "GET", path, query, all_headers)
        else:
            all_headers["Content-Type"] = "application/json"
            text = json.dumps(body).encode()
            self._response = target.send(self._connection, "POST", path, query, all_headers, text)
        self.status = self._response.status
        self.headers = lower(self._response)
        self._socket.settimeout(3600)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # The server was first.
        self._thread.join(10)
        self._response.close()
        self._connection.close()

    def block(self, seconds: float | None = None) -> Block:
        """The next block. Raises Silence."""
        seconds = self._seconds if seconds is None else seconds
        try:
            block = self._blocks.get(timeout=seconds)
        except queue.Empty:
            raise Silence(f"no block came in {seconds:g} s") from None
        if block is None:
            raise Silence("the stream ended")
        self.blocks.append(block)
        return block

    def until(self, wanted: Callable[[Block], bool], what: str, seconds: float | None = None) -> Block:
        """The next block of a kind; the blocks before it are in `blocks`. Raises Silence."""
        seconds = self._seconds if seconds is None else seconds
        deadline = time.monotonic() + seconds
        while True:
            try:
                block = self.block(max(0.0, deadline - time.monotonic()))
            except Silence as silence:
                reason = ", and the stream ended" if "ended" in str(silence) else ""
                raise Silence(f"no {what} in {seconds:g} s{reason}") from None
            if wanted(block):
                return block

    def event(self, name: str = "", seconds: float | None = None) -> Block:
        """The next block with data; of this name, if one is given. Raises Silence."""
        what = f"event {name!r}" if name else "event"
        return self.until(lambda block: block.is_event and name in ("", block.event), what, seconds)

    def events(self, count: int) -> list[Block]:
        """The next so many blocks with data. Raises Silence."""
        return [self.event() for _ in range(count)]

    def opened(self) -> Self:
        """Wait for the opening: from then on nothing is missed. Raises Silence."""
        self.until(lambda block: block.field("retry") is not None, "opening")
        return self

    def _read(self) -> None:
        """Cut what arrives into blocks, until the stream ends."""
        inflate = zlib.decompressobj(31) if self.headers.get("content-encoding") == "gzip" else None
        rest = b""
        try:
            while piece := self._response.read1(65536):
                plain = inflate.decompress(piece) if inflate else piece
                self.raw += plain
                *whole, rest = (rest + plain).split(b"\n\n")
                for text in whole:
                    lines = text.decode(errors="replace").split("\n")
                    self._blocks.put(Block(tuple(lines), time.monotonic()))
        except (OSError, ValueError, AttributeError, http.client.HTTPException, zlib.error):
            pass  # Cut off; by us, if the rule has ended.
        finally:
            self._blocks.put(None)
