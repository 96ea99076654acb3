"""The short way to a stream: for the first request of a connection, when it has come with the connection.

Tornado's way makes a stream object, two tasks, some futures and a timer for a request, and all are thrown
away when its socket becomes an event stream. Here the request is looked at in the socket, and the handler
that Tornado's routing names is called at once. What is not plain stays in the socket, for Tornado.
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

# What a browser sends has some 500 bytes, with cookies a few thousand.
MAX_BYTES = 16 * 1024

_PATH = b"GET /stream"

# With one of these more may have to be read, or another protocol spoken.
_NOT_PLAIN = ("Content-Length", "Transfer-Encoding", "Expect", "Upgrade")


def served(connection: socket.socket, address: Any, app: tornado.web.Application) -> bool:
    """Serve the request that waits in a socket, if it asks for a stream and is all that the client said.

    False: nothing was read from the socket.
    """
    try:
        data = connection.recv(MAX_BYTES, socket.MSG_PEEK)
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
    connection.recv(len(data))
    delegate: Any = app.find_handler(request)
    if not _opened(delegate, app, request, bare):
        delegate.finish()
    return True


def _opened(
    delegate: Any, app: tornado.web.Application, request: HTTPServerRequest, bare: BareConnection
) -> bool:
    """Open the stream. False: Tornado has to run the handler, as it must wait for something, or refuse."""
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
        # There is nobody left to be answered: `open` has closed the socket.
        handler.log_exception(*sys.exc_info())
    return True


def _parsed(data: bytes) -> tuple[RequestStartLine, HTTPHeaders]:
    """A request's head, as Tornado takes it apart. Raises HTTPInputError."""
    first, _, rest = data.decode("latin-1").partition("\n")
    return parse_request_start_line(first.rstrip("\r")), HTTPHeaders.parse(rest)
