"""The accept loop: takes clients in as long as there are descriptors for them."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Sequence
from typing import Any

import tornado.web
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream

from handlers import first_request
from handlers.descriptors import Descriptors

# In one turn of the loop: some 5 ms, then events go out again.
ACCEPTS_PER_TURN = 25

# How long nobody is accepted when there is no descriptor, before it is tried again.
PAUSE_SECONDS = 0.25

# How long a connection may be without a stream, or an answer, when there is no descriptor for others.
REQUEST_SECONDS = 2.0

# accept(2): no descriptor in this process, none in the system, no memory.
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Requests(HTTPServer):
    """Tornado's server. Knows since when each connection is served that has not become a stream."""

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """Take what HTTPServer takes."""
        super().initialize(*args, **kwargs)
        self._since: dict[IOStream, float] = {}

    def serve(self, connection: socket.socket, address: Any) -> None:
        """Answer the requests of a connection."""
        stream = IOStream(connection, self.max_buffer_size, self.read_chunk_size)
        self._since[stream] = time.monotonic()
        self.handle_stream(stream, address)

    def close_older_than(self, seconds: float) -> None:
        """Close the connections that have been served for longer: they say nothing, or not enough."""
        due = time.monotonic() - seconds
        for stream, since in list(self._since.items()):
            if since > due:
                return
            stream.close()

    def on_close(self, server_conn: Any) -> None:
        """Forget a connection that was closed, or has become a stream."""
        self._since.pop(server_conn.stream, None)
        super().on_close(server_conn)


class Acceptor:
    """Accepts connections, and has their requests served. Pauses while there is no descriptor for more."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        app: tornado.web.Application,
        requests: Requests,
        descriptors: Descriptors,
    ) -> None:
        self._sockets = sockets
        self._app = app
        self._requests = requests
        self._descriptors = descriptors
        self._loop = asyncio.get_running_loop()
        self._resuming: asyncio.TimerHandle | None = None
        self._start()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._sockets[0].getsockname()[1])

    def stop(self) -> None:
        """Accept nobody any more, and close the sockets."""
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
                continue  # the client has left meanwhile, or its network has failed: accept(2)
            connection.setblocking(False)
            last = connection.fileno() >= self._descriptors.requests - 1
            if not first_request.served(connection, address, self._app):
                self._requests.serve(connection, address)
            if last:
                self._wait_for_room()
                return
