"""The bound of a request's body. A larger one is refused with an answer that reaches the client.

Tornado answers such a body with an empty 400 and closes the socket while the client still sends. The kernel
then resets the connection, and many clients never see the answer. Here the answer is sent at once, and the
rest of the body is read and thrown away, in the time that a request has to arrive.
"""

from __future__ import annotations

import sys
from asyncio import Future
from collections.abc import Awaitable, Callable
from typing import Protocol

from tornado.http1connection import HTTP1Connection
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerRequest,
    RequestStartLine,
    ResponseStartLine,
)

# The body of a bundle has some hundred bytes for each subscription.
BODY_MAX_BYTES = 64 * 1024

# Bytes of a refused body that are read. A client that writes without reading has up to some 10 MB on the way
# (net.ipv4.tcp_wmem and tcp_rmem).
DISCARDED_MAX_BYTES = 8 * 2**20


class Refuses(Protocol):
    """Answers a request whose body is too large."""

    def refuse_body(self, request: HTTPServerRequest, max_bytes: int) -> HTTPMessageDelegate:
        """Return the delegate that answers when it is finished."""


class BoundedBody(HTTPMessageDelegate):
    """Passes a request on, unless its body is too large."""

    def __init__(self, delegate: HTTPMessageDelegate, connection: HTTP1Connection, refuses: Refuses) -> None:
        self._delegate = delegate
        self._connection = connection
        self._refuses = refuses
        self._received = 0
        self._refusal: _Refusal | None = None
        # Otherwise Tornado would refuse the body in its own way.
        connection.set_max_body_size(sys.maxsize)

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        """Refuse a body that announces its size."""
        assert isinstance(start_line, RequestStartLine)
        self._start_line, self._headers = start_line, headers
        waits = self._delegate.headers_received(start_line, headers)
        if _announced(headers) > BODY_MAX_BYTES:
            self._refuse()
        return waits

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Refuse a body that turns out to be too large; throw away the rest of a refused one."""
        self._received += len(chunk)
        if self._refusal is None and self._received <= BODY_MAX_BYTES:
            return self._delegate.data_received(chunk)
        if self._refusal is None:
            self._refuse()
        if self._received > DISCARDED_MAX_BYTES:
            self._connection.stream.close()
        return None

    def finish(self) -> None:
        """Answer the request, or end the connection of a refused one."""
        if self._refusal is None:
            self._delegate.finish()
        else:
            self._refusal.body_read()

    def on_connection_close(self) -> None:
        """Forget a request that is not complete."""
        if self._refusal is None:
            self._delegate.on_connection_close()

    def _refuse(self) -> None:
        self._delegate.on_connection_close()
        # Tornado would invite the client to send the body.
        self._headers.pop("Expect", None)
        self._refusal = _Refusal(self._connection)
        request = HTTPServerRequest(
            start_line=self._start_line, headers=self._headers, connection=self._refusal
        )
        self._refuses.refuse_body(request, BODY_MAX_BYTES).finish()


class _Refusal(HTTPConnection):
    """The connection of a refused request. It is closed once the answer is sent and the body is read."""

    def __init__(self, connection: HTTP1Connection) -> None:
        self.context = connection.context
        self._connection = connection
        self._open = {"answer", "body"}

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        """Do nothing: the answer is given at once, so the callback would never be needed."""

    def write_headers(
        self,
        start_line: RequestStartLine | ResponseStartLine,
        headers: HTTPHeaders,
        chunk: bytes | None = None,
    ) -> Future[None]:
        """Send the answer."""
        headers["Connection"] = "close"
        written = self._connection.write_headers(start_line, headers, chunk)
        written.add_done_callback(lambda _: self._ended("answer"))
        return written

    def write(self, chunk: bytes) -> Future[None]:
        """Send a piece of the answer."""
        return self._connection.write(chunk)

    def finish(self) -> None:
        """Do nothing: Tornado would close the connection, although the client still sends."""

    def body_read(self) -> None:
        """Close the connection, after the answer."""
        self._ended("body")

    def _ended(self, part: str) -> None:
        self._open.discard(part)
        if not self._open:
            self._connection.stream.close()


def _announced(headers: HTTPHeaders) -> int:
    """The size of the body if it is announced; 0 if not, or in a form that Tornado refuses."""
    if "Transfer-Encoding" in headers:
        return 0
    try:
        return int(headers.get("Content-Length", "0"))
    except ValueError:
        return 0
