"""A connection to MongoDB that the event loop reads itself.

The driver connects, encrypts and authenticates. From then on, a request and its reply are MongoDB's OP_MSG
(specifications/source/message/OP_MSG.md): no thread is woken for a change.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping
from concurrent.futures import Executor
from contextlib import ExitStack
from functools import partial
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument
from pymongo.errors import AutoReconnect, OperationFailure
from pymongo.ssl_support import BLOCKING_IO_ERRORS

_HEADER = struct.Struct("<iiii")
_OP_MSG = 2013
_FLAGS_AND_KIND = b"\0\0\0\0" + b"\0"
_BODY = _HEADER.size + len(_FLAGS_AND_KIND)

# MongoDB's maxMessageSizeBytes. A longer "reply" means that the two sides are out of step.
_MAX_MESSAGE_BYTES = 48_000_000

_CHUNK_BYTES = 256 * 1024

_BLOCKED = (BlockingIOError, InterruptedError, *BLOCKING_IO_ERRORS)

# A peer that has vanished is noticed after 10 + 3 * 5 seconds. The reply to a getMore may take minutes, so
# its absence alone means nothing.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}

# Dates outside of Python's range of years stay numbers.
_CODEC: CodecOptions[RawBSONDocument] = CodecOptions(
    RawBSONDocument, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)


class Connection:
    """A connection taken from the driver's pool. It serves one request at a time.

    Close it in every case: the pool counts it as taken until then.
    """

    def __init__(self, lent: ExitStack, driver_connection: Any, read_preference: Any) -> None:
        self._lent = lent
        self._driver_connection = driver_connection
        self.address: tuple[str, int | None] = driver_connection.address
        # Since PyMongo 4.12 the socket is wrapped.
        self._socket = getattr(driver_connection.conn, "sock", driver_connection.conn)
        self._read_preference = read_preference.document if read_preference.mode else None
        self._loop = asyncio.get_running_loop()
        self._requests = 0
        self._unsent = memoryview(b"")
        self._received = bytearray()
        self._error: OSError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.waiting = False
        """True while the reply to the last request was not returned yet."""
        self._socket.setblocking(False)
        for name, value in _KEEP_ALIVE.items():
            if hasattr(socket, name):
                self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._loop.add_reader(self._socket.fileno(), self._receive)

    @property
    def lost(self) -> bool:
        """True once nothing can be sent or received."""
        return self._error is not None

    @property
    def is_idle(self) -> bool:
        """True while a new request can be sent: no reply is outstanding."""
        return not self.waiting and not self.lost

    @classmethod
    async def open(cls, client: Any, executor: Executor) -> Connection:
        """Connect by the client's read preference. Raises PyMongoError."""
        lent = ExitStack()
        loop = asyncio.get_running_loop()
        taking = loop.run_in_executor(executor, _take, client.delegate, lent)
        try:
            return cls(lent, *await asyncio.shield(taking))
        except asyncio.CancelledError:
            # The thread goes on, and takes a connection that nobody would give back.
            taking.add_done_callback(partial(_give_back_later, lent))
            raise

    def send(self, database: str, command: Mapping[str, Any]) -> None:
        """Start a request; `reply` has its answer."""
        message = dict(command)
        message["$db"] = database
        if self._read_preference is not None:
            message["$readPreference"] = self._read_preference
        body = bson.encode(message)
        self._requests += 1
        header = _HEADER.pack(_BODY + len(body), self._requests, 0, _OP_MSG)
        self._received.clear()
        self._unsent = memoryview(header + _FLAGS_AND_KIND + body)
        self.waiting = True
        self._send()

    async def reply(self) -> Any:
        """The reply to the last request, a RawBSONDocument. May be cancelled, and called again.

        Raises OperationFailure if MongoDB refuses the request, AutoReconnect if the connection is lost.
        """
        while not self._is_complete():
            if self._error is not None:
                raise AutoReconnect(f"{self.address[0]}:{self.address[1]}: {self._error}")
            self._waiter = self._loop.create_future()
            await self._waiter
        self.waiting = False
        # A copy: the documents of a reply are kept for minutes, and the buffer is reused.
        reply: Any = RawBSONDocument(bytes(memoryview(self._received)[_BODY:]), _CODEC)
        if not reply["ok"]:
            details = bson.decode(reply.raw)
            raise OperationFailure(details.get("errmsg", ""), details.get("code"), details)
        return reply

    async def request(self, database: str, command: Mapping[str, Any]) -> Any:
        """Send a request and return its reply. Raises like `reply`."""
        self.send(database, command)
        return await self.reply()

    def close(self) -> None:
        """Close the socket, and return the connection to the driver's pool, which drops it."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
        self._fail(ConnectionAbortedError("closed"))
        _give_back(self._lent, self._driver_connection)

    def _is_complete(self) -> bool:
        if len(self._received) < _HEADER.size:
            return False
        size, _, request, operation = _HEADER.unpack_from(self._received)
        if request != self._requests or operation != _OP_MSG or not _BODY < size <= _MAX_MESSAGE_BYTES:
            self._fail(ConnectionError("this is not a reply to the last request"))
            return False
        return len(self._received) >= int(size)

    def _send(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except _BLOCKED:
            self._loop.add_writer(self._socket.fileno(), self._send)
            return
        except OSError as error:
            self._fail(error)
        self._loop.remove_writer(self._socket.fileno())

    def _receive(self) -> None:
        """Read everything that has arrived: TLS may hold bytes for which the event loop calls no reader."""
        try:
            while True:
                data = self._socket.recv(_CHUNK_BYTES)
                if not data:
                    raise ConnectionResetError("the connection was closed")
                self._received += data
        except _BLOCKED:
            pass
        except OSError as error:
            self._fail(error)
        if self._waiter is not None and not self._waiter.done() and (self._error or self._is_complete()):
            self._waiter.set_result(None)

    def _fail(self, error: OSError) -> None:
        self._error = self._error or error
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _take(client: Any, lent: ExitStack) -> tuple[Any, Any]:
    """Take a connection out of the driver's pool. Runs in a thread.

    The driver has no public call for this. These names are in every version that setup.py allows: `make
    test-lowest` and `make test-newest` test that.
    """
    taken: tuple[Any, Any] = lent.enter_context(
        client._conn_for_reads(client.read_preference, None, "aggregate")
    )
    return taken


def _give_back_later(lent: ExitStack, taken: asyncio.Future[tuple[Any, Any]]) -> None:
    if not taken.cancelled() and taken.exception() is None:
        _give_back(lent, taken.result()[0])


def _give_back(lent: ExitStack, driver_connection: Any) -> None:
    # The pool drops a closed connection. An open one might still have a reply outstanding.
    driver_connection.close_conn(None)
    lent.close()
