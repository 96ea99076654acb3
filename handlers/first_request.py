"""A fast path to a stream, for a first request that arrives together with its connection.

Tornado makes a stream object, two tasks, some futures and a timer for a request, and discards all of them
when the socket becomes an event stream. Here the request is peeked at in the socket, and the handler of
Tornado's routing is called at once. Every other request stays in the socket, for Tornado.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

import tornado.web
from tornado.httputil import (
    HTTPHeaders,
    HTTPInputError,
    HTTPServerRequest,
    RequestStartLine,
    parse_request_start_line,
)

from handlers.bare_connection import BareConnection
from handlers.stream import StreamHandler

# A browser's request has some 500 bytes, with cookies a few thousand.
MAX_BYTES = 16 * 1024

_PATH = b"GET /stream"

# Headers that announce a body, or another protocol.
_NOT_PLAIN = ("Content-Length", "Transfer-Encoding", "Expect", "Upgrade")


def served(
    connection: socket.socket, address: Any, app: tornado.web.Application, max_bytes: int = MAX_BYTES
) -> bool:
    """Serve the request that waits in a socket, if it asks for a stream and nothing follows it.

    Returns False for every other request, which is then still unread in the socket.
    """
    try:
        data = connection.recv(max_bytes, socket.MSG_PEEK)
    except OSError:
        return False
    if not (data.startswith(_PATH) and data.find(b"\r\n\r\n") == len(data) - 4):
        return False
    try:
        start_line, headers = _parsed(data)
        if any(name in headers for name in _NOT_PLAIN):
            return False
        bare = BareConnection(connection, address[0])
        request = HTTPServerRequest(start_line=start_line, headers=headers, connection=bare)
    except HTTPInputError:
        return False
    delegate: Any = app.find_handler(request)
    kind = delegate.handler_class
    if issubclass(kind, StreamHandler) and kind.waits(request, **delegate.handler_kwargs):
        return False
    connection.recv(len(data))
    if not _opened(delegate, app, request, bare):
        delegate.finish()
    return True


def _opened(
    delegate: Any, app: tornado.web.Application, request: HTTPServerRequest, bare: BareConnection
) -> bool:
    """Open the stream. Returns False if Tornado must run the handler, to wait or to refuse."""
    if not issubclass(delegate.handler_class, StreamHandler):
        return False
    handler = delegate.handler_class(app, request, **delegate.handler_kwargs)
    try:
        if (waits := handler.prepare()) is not None:
            waits.close()
            return False
        handler.open(*(name and handler.decode_argument(name) for name in delegate.path_args))
    except Exception:
        if not bare.detached:
            return False
        # No answer is possible: `open` has closed the socket.
        handler.log_exception(*sys.exc_info())
    return True


def _parsed(data: bytes) -> tuple[RequestStartLine, HTTPHeaders]:
    """Parse a request's head with Tornado's parser. Raises HTTPInputError."""
    first, _, rest = data.decode("latin-1").partition("\n")
    return parse_request_start_line(first.rstrip("\r")), HTTPHeaders.parse(rest)
