"""The accept loop: accepts clients while there are descriptors for them."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import tornado.web
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPMessageDelegate
from tornado.iostream import IOStream, SSLIOStream

from handlers import first_request
from handlers.bodies import BoundedBody
from handlers.certificate import Certificate
from handlers.descriptors import Descriptors
from handlers.limits import Limits

# Connections accepted in one turn of the event loop: some 5 ms, then events are sent again.
ACCEPTS_PER_TURN = 25

# Time without accepting before the next try, when the descriptors are used up.
PAUSE_SECONDS = 0.25

# Time that a connection may take for its request, when the descriptors are used up.
REQUEST_SECONDS = 2.0

# accept(2): no descriptor in this process, none in the system, no memory.
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Requests(HTTPServer):
    """Tornado's server, with the age of each connection that has not become a stream."""

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """Take the arguments of HTTPServer."""
        super().initialize(*args, **kwargs)
        self._since: dict[IOStream, float] = {}
        self._left: dict[IOStream, Callable[[], None]] = {}

    def serve(self, connection: socket.socket, address: Any, left: Callable[[], None]) -> None:
        """Answer the requests of a connection. Calls `left` when it is closed, or has become a stream."""
        kind = SSLIOStream if isinstance(connection, ssl.SSLSocket) else IOStream
        stream = kind(connection, self.max_buffer_size, self.read_chunk_size)
        self._since[stream] = time.monotonic()
        self._left[stream] = left
        self.handle_stream(stream, address)

    def start_request(self, server_conn: object, request_conn: Any) -> HTTPMessageDelegate:
        """Bound the body of a request."""
        delegate = super().start_request(server_conn, request_conn)
        application: Any = self.request_callback
        return BoundedBody(delegate, request_conn, application)

    def close_older_than(self, seconds: float) -> None:
        """Close the connections whose requests are not complete after this time."""
        due = time.monotonic() - seconds
        for stream, since in list(self._since.items()):
            if since > due:
                return
            stream.close()

    def on_close(self, server_conn: Any) -> None:
        """Forget a connection that was closed, or has become a stream."""
        self._since.pop(server_conn.stream, None)
        self._left.pop(server_conn.stream, _nothing)()
        super().on_close(server_conn)


class Acceptor:
    """Accepts connections and passes them on. Pauses while the descriptors are used up."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        app: tornado.web.Application,
        requests: Requests,
        descriptors: Descriptors,
        limits: Limits,
        head_max_bytes: int,
        certificate: Certificate | None = None,
    ) -> None:
        self._sockets = sockets
        self._app = app
        self._requests = requests
        self._descriptors = descriptors
        self._limits = limits
        self._certificate = certificate
        self._head_max_bytes = min(head_max_bytes, first_request.MAX_BYTES)
        self._loop = asyncio.get_running_loop()
        self._resuming: asyncio.TimerHandle | None = None
        self._start()

    @property
    def port(self) -> int:
        """The port of the listening sockets."""
        return int(self._sockets[0].getsockname()[1])

    def stop(self) -> None:
        """Stop accepting, and close the listening sockets."""
        self._pause()
        for listening in self._sockets:
            listening.close()

    async def close_all_connections(self) -> None:
        """Close the connections that have not become streams."""
        await self._requests.close_all_connections()

    def _start(self) -> None:
        for listening in self._sockets:
            self._loop.add_reader(listening.fileno(), self._accept, listening)

    def _pause(self) -> None:
        if self._resuming is not None:
            self._resuming.cancel()
            self._resuming = None
        for listening in self._sockets:
            self._loop.remove_reader(listening.fileno())

    def _wait_for_room(self) -> None:
        self._descriptors.refuse()
        self._requests.close_older_than(REQUEST_SECONDS)
        self._pause()
        self._resuming = self._loop.call_later(PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        self._resuming = None
        if self._descriptors.has_room():
            self._start()
        else:
            self._wait_for_room()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                connection, address = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._wait_for_room()
                    return
                continue  # the client has left, or its network has failed: accept(2)
            connection.setblocking(False)
            last = connection.fileno() >= self._descriptors.requests - 1
            self._serve(connection, address)
            if last:
                self._wait_for_room()
                return

    def _serve(self, connection: socket.socket, address: Any) -> None:
        counted = self._limits.accept(address[0])
        if counted is None:
            connection.close()
        elif self._certificate is not None:
            self._serve_encrypted(self._certificate, connection, address, counted)
        elif first_request.served(connection, address, self._app, self._head_max_bytes):
            self._limits.leave(counted)
        else:
            self._requests.serve(connection, address, partial(self._limits.leave, counted))

    def _serve_encrypted(
        self, certificate: Certificate, connection: socket.socket, address: Any, counted: str
    ) -> None:
        try:
            encrypted = certificate.wrap(connection)
        except OSError:
            connection.close()
            self._limits.leave(counted)
        else:
            self._requests.serve(encrypted, address, partial(self._limits.leave, counted))


def _nothing() -> None:
    pass
