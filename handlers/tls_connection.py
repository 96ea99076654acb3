"""A client's socket with TLS. A stream writes to it as to a plain socket, without Tornado's SSLIOStream."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any

from handlers.connection import StreamConnection
from handlers.framing import Framing
from handlers.watcher import Watcher

# The largest record (RFC 8446, section 5.1).
RECORD_BYTES = 16 * 1024


class TlsSocket(ssl.SSLSocket):
    """A TLS socket whose `send` returns the number of bytes taken of a large write, as a plain socket does.

    OpenSSL keeps a record that the kernel does not take, and wants the same bytes at the next write. It has
    taken all of a record or nothing of it, so the bytes that are not counted here are the ones to send again.
    """

    def send(self, data: Any, flags: int = 0) -> int:
        """Write without waiting; return the number of bytes taken. Raises SSLWantWriteError for none."""
        size = len(data)
        if size <= RECORD_BYTES:
            return super().send(data, flags)
        view = memoryview(data)
        sent = 0
        while sent < size:
            try:
                sent += super().send(view[sent : sent + RECORD_BYTES], flags)
            except ssl.SSLWantWriteError:
                if not sent:
                    raise
                break
        return sent


class TlsConnection(StreamConnection):
    """A stream over TLS. Its bytes are counted as sent when they are encrypted and in the kernel."""

    __slots__ = ()

    def close(self) -> None:
        """Tell the client that nothing was cut off (close_notify), and close the socket."""
        if self._number >= 0 and self._unsent is None:
            # An error here only says that the client's own close_notify has not come. It is not waited for.
            with contextlib.suppress(OSError, ValueError):
                self.socket.unwrap()  # type: ignore[attr-defined]
        super().close()

    def _arrived(self) -> None:
        try:
            self.socket.recv(1)
        except ssl.SSLWantReadError:
            return  # a message of TLS itself, or part of a record
        except OSError:
            pass
        self.close()


def stream_connection(
    connection: socket.socket, head: bytes, framing: Framing, watcher: Watcher
) -> StreamConnection:
    """Return the connection of a stream, with TLS or without."""
    kind = TlsConnection if isinstance(connection, ssl.SSLSocket) else StreamConnection
    return kind(connection, head, framing, watcher)
