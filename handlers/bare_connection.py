"""A connection that Tornado has not read from, with the interface that Tornado's handlers expect."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from asyncio import Future
from collections.abc import Callable
from dataclasses import dataclass

from tornado.httputil import HTTPConnection, HTTPHeaders, RequestStartLine, ResponseStartLine


@dataclass(frozen=True, slots=True)
class _Context:
    """The attributes of a connection that Tornado reads."""

    remote_ip: str
    protocol: str = "http"


class BareConnection(HTTPConnection):
    """The connection of one request. It becomes a stream, or is closed after a short answer."""

    def __init__(self, connection: socket.socket, remote_ip: str) -> None:
        self.socket = connection
        self.context = _Context(remote_ip)
        self.detached = False

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        """Do nothing: the answer is given at once, so the callback would never be needed."""

    def detach(self) -> socket.socket:
        """Hand over the socket."""
        self.detached = True
        return self.socket

    def write_headers(
        self,
        start_line: RequestStartLine | ResponseStartLine,
        headers: HTTPHeaders,
        chunk: bytes | None = None,
    ) -> Future[None]:
        """Send an answer's head, and the beginning of its body."""
        assert isinstance(start_line, ResponseStartLine)
        headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {start_line.code} {start_line.reason}"]
        lines += [f"{name}: {value}" for name, value in headers.get_all()]
        return self.write("\r\n".join([*lines, "", ""]).encode("latin-1") + (chunk or b""))

    def write(self, chunk: bytes) -> Future[None]:
        """Send a piece of an answer. An empty send buffer takes all of it, unless the client has left."""
        with contextlib.suppress(OSError):
            self.socket.send(chunk)
        done: Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def finish(self) -> None:
        """End the answer and close the connection."""
        self.socket.close()
