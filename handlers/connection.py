"""One client's socket, taken over from Tornado's HTTP server."""

from __future__ import annotations

import asyncio
import socket
import struct
from asyncio import Future
from collections.abc import Callable
from typing import Any

from tornado.httputil import HTTPServerRequest
from tornado.iostream import IOStream, StreamClosedError

from brook.delivery.connection import Buffer, Socket
from brook.delivery.subscriber import WRITE_BYTES
from handlers.framing import Framing

# SO_LINGER for no time at all (socket(7)).
_RESET = struct.pack("ii", 1, 0)


class StreamConnection:
    """Writes straight to an idle socket; what it does not take waits in Tornado's IOStream.

    No task and no handler stays behind for a connection: ten thousand of them are ten thousand of
    these and their streams. Raises StreamClosedError when the client has left already.
    """

    __slots__ = ("_drained", "_gone", "_head", "_stream", "framing", "socket")

    def __init__(self, stream: IOStream, head: bytes, framing: Framing) -> None:
        if stream.closed():
            raise StreamClosedError  # it has no socket any more
        self._stream = stream
        self._head = head + framing.start
        self.socket: Socket = stream.socket
        self._drained: Callable[[], None] = _nothing
        self._gone: Callable[[], None] = _nothing
        self.framing = framing

    def watch(self, *, drained: Callable[[], None], gone: Callable[[], None]) -> None:
        """Call back when a write is through, and once when the client has left.

        Raises StreamClosedError when it has left already.
        """
        self._drained = drained
        self._gone = gone
        # An event stream's client has nothing more to say: whatever it sends, or its end, ends it.
        ended = asyncio.ensure_future(self._stream.read_bytes(1, partial=True))
        ended.add_done_callback(self._spoke_or_left)

    def send(self, data: Buffer) -> Buffer | None:
        """Write what the socket takes. Of the rest, a piece waits here and `drained` follows; what
        is returned is the caller's to keep. None: nothing waits.
        """
        if self._head:
            data = self._head + data
            self._head = b""
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._stream.close()
            return None
        if sent == len(data):
            return None
        rest = memoryview(data)[sent:]
        try:
            written = self._stream.write(rest[:WRITE_BYTES])
        except StreamClosedError:
            return None
        written.add_done_callback(self._written)
        return rest[WRITE_BYTES:]

    def close(self) -> None:
        """Close the socket, once what the kernel holds is sent."""
        self._stream.close()

    def abort(self) -> None:
        """Reset the connection: the kernel forgets what it holds for a client that takes nothing.

        Closed as usual, it would keep that, for nobody, until its own patience is over.
        """
        if not self._stream.closed():
            self._stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._stream.close()

    def _written(self, future: Future[Any]) -> None:
        if future.exception() is None:
            self._drained()

    def _spoke_or_left(self, future: Future[Any]) -> None:
        future.exception()  # a stream that was closed: marks it as seen
        self._stream.close()
        self._gone()
        # They hold the subscriber, which holds this connection: a ring that only the collector would break.
        self._drained = self._gone = _nothing


def descriptor(request: HTTPServerRequest) -> int:
    """The number of a request's socket; -1 when its client has left."""
    connection: Any = request.connection
    return -1 if connection.stream.closed() else int(connection.stream.socket.fileno())


def _nothing() -> None:
    pass
