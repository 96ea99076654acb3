"""The connection of a stream: one client's socket, taken over from Tornado."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any

from tornado.httputil import HTTPServerRequest
from tornado.iostream import IOStream, StreamClosedError

from brook.delivery.connection import Buffer
from brook.delivery.subscriber import WRITE_BYTES
from handlers.bare_connection import BareConnection
from handlers.framing import Framing
from handlers.watcher import Watcher

# The value of SO_LINGER that resets a connection when it is closed (socket(7)).
_RESET = struct.pack("ii", 1, 0)

# Raised when the socket takes nothing now: without TLS, and with it.
_FULL = (BlockingIOError, ssl.SSLWantWriteError)


class StreamConnection:
    """Writes directly to an idle socket, and keeps one piece of the bytes that it does not take.

    A connection has no task, no future and no handler: ten thousand clients cost ten thousand of these
    objects. `head` is written before the first data.
    """

    __slots__ = ("_drained", "_gone", "_head", "_loop", "_number", "_unsent", "_watcher", "framing", "socket")

    def __init__(self, connection: socket.socket, head: bytes, framing: Framing, watcher: Watcher) -> None:
        self.socket = connection
        self.framing = framing
        self._loop = asyncio.get_running_loop()
        # The loop finds a number faster than a socket.
        self._number = connection.fileno()
        self._head = head
        self._unsent: memoryview | None = None
        self._watcher = watcher
        self._drained: Callable[[], None] = _nothing
        self._gone: Callable[[], None] = _nothing

    def watch(self, *, drained: Callable[[], None], gone: Callable[[], None]) -> None:
        """Call `drained` when unsent bytes are written, and `gone` once, when the connection is closed."""
        self._drained = drained
        self._gone = gone
        # The client of an event stream has nothing more to send. Any byte from it ends the stream, as its
        # leaving does.
        self._watcher.add(self._number, self._arrived)

    def send(self, data: Buffer) -> Buffer | None:
        """Write as much as the socket takes. Returns None if it took everything.

        Otherwise a piece of the rest waits here, and `drained` is called when it is written. The remaining
        bytes are returned, for the caller to keep.
        """
        if self._head:
            data = self._head + data
            self._head = b""
        try:
            sent = self.socket.send(data)
        except _FULL:
            sent = 0
        except OSError:
            self.close()
            return None
        if sent == len(data):
            return None
        rest = memoryview(data)[sent:]
        self._unsent = rest[:WRITE_BYTES]
        self._loop.add_writer(self._number, self._send_on)
        return rest[WRITE_BYTES:]

    def close(self) -> None:
        """Close the socket. The kernel still sends the bytes that it holds."""
        if self._number < 0:
            return
        self._watcher.remove(self._number)
        if self._unsent is not None:
            self._loop.remove_writer(self._number)
            self._unsent = None
        self._number = -1
        self.socket.close()
        self._loop.call_soon(self._left)

    def abort(self) -> None:
        """Reset the connection, so that the kernel discards the bytes that it holds for the client.

        After an ordinary close, it would keep them until its own time-out.
        """
        if self._number >= 0:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def _arrived(self) -> None:
        self.close()

    def _send_on(self) -> None:
        assert self._unsent is not None
        try:
            sent = self.socket.send(self._unsent)
        except _FULL:
            return
        except OSError:
            self.close()
            return
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            self._unsent = None
            self._loop.remove_writer(self._number)
            self._drained()

    def _left(self) -> None:
        self._gone()
        # The callbacks refer to the subscriber, and it refers to this connection: without this line, only the
        # garbage collector would free them.
        self._drained = self._gone = _nothing


def take_over(detached: IOStream | socket.socket) -> socket.socket:
    """The socket of a detached request. Raises StreamClosedError if the client has left."""
    if isinstance(detached, socket.socket):
        return detached
    read_ahead: Any = detached.read_bytes(1, partial=True)
    if detached.closed():
        read_ahead.exception()  # otherwise asyncio logs that it was never retrieved
        raise StreamClosedError
    connection: socket.socket = detached.socket
    detached.io_loop.remove_handler(connection)
    if read_ahead.done():
        # Tornado has already read more from the client. The stream ends as if it came now. This must not be
        # the method of a TLS socket, which would go on without encryption.
        socket.socket.shutdown(connection, socket.SHUT_RD)
    return connection


def descriptor(request: HTTPServerRequest) -> int:
    """The descriptor number of a request's socket; -1 if its client has left."""
    connection: Any = request.connection
    if isinstance(connection, BareConnection):
        return connection.socket.fileno()
    return -1 if connection.stream.closed() else int(connection.stream.socket.fileno())


def close_after(answer: asyncio.Future[None], request: HTTPServerRequest) -> None:
    """Close a request's connection after the answer. Tornado does so only if the client asks for it."""
    connection: Any = request.connection
    if not isinstance(connection, BareConnection):
        answer.add_done_callback(lambda _: connection.stream.close())


def _nothing() -> None:
    pass
