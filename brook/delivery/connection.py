"""The protocols of a client's connection, implemented in `handlers/`: `connection.py`, `tls_connection.py`,
`framing.py`.
"""

from __future__ import annotations

from typing import Protocol

Buffer = bytes | memoryview


class Socket(Protocol):
    """The socket of a connection, plain or with TLS."""

    def send(self, data: Buffer, /) -> int:
        """Write without waiting. Returns the number of bytes taken; raises OSError if it takes none."""


class Framing(Protocol):
    """The encoding of a body on the wire. Hashable: connections with equal framings share the same bytes."""

    @property
    def end(self) -> bytes:
        """The bytes that end a body."""

    def wrap(self, data: bytes) -> bytes:
        """Frame one piece of a body."""


class Connection(Protocol):
    """One client's connection. No method waits, and none raises."""

    @property
    def framing(self) -> Framing:
        """The framing of this connection's body."""

    @property
    def socket(self) -> Socket:
        """The raw socket. Use it only after `send` has written the response head, and while nothing is
        unsent: otherwise bytes would precede the head, or overtake queued ones.
        """

    def send(self, data: Buffer) -> Buffer | None:
        """Write as much as the socket takes. Returns None if it took everything. Otherwise returns the part
        that the caller must keep, and calls back `drained` when the socket has room again.
        """

    def close(self) -> None:
        """Close the socket. The connection calls the list's `remove`."""

    def abort(self) -> None:
        """Close the socket and discard its unsent bytes. The connection calls the list's `remove`."""
