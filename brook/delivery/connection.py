"""What the core asks of a way out. `handlers/connection.py` and `handlers/framing.py` are the real ones."""

from __future__ import annotations

from typing import Protocol

Buffer = bytes | memoryview


class Socket(Protocol):
    """The operating system's end of a connection."""

    def send(self, data: Buffer, /) -> int:
        """Write without waiting; return the number of bytes taken. Raises OSError if none were."""


class Framing(Protocol):
    """How a body is put on the wire. Hashable: connections with equal framings are sent the same bytes."""

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
        unsent: bytes would precede the head, or overtake what is queued.
        """

    def send(self, data: Buffer) -> Buffer | None:
        """Write what the socket takes. Returns None if it took everything. Otherwise returns the part
        that the caller must keep, and calls `Subscriber.drained` once the socket has room again.
        """

    def close(self) -> None:
        """Close the socket. The list's `remove` is called back for it."""

    def abort(self) -> None:
        """Close the socket and lose what it has not sent. `remove` is called back likewise."""
