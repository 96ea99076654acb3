"""Many clients of live queries in one thread. They read whatever comes, and note when each is true."""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Sequence

# An event is whole at its empty line.
_LIVE = b"event: live\n"
_ID = re.compile(rb"^id: (\S+)$", re.MULTILINE)

# As many as the server accepts in some turns of its loop.
TOGETHER = 200


class Member:
    """One client."""

    __slots__ = ("bytes", "changes", "is_true", "last_id", "socket", "tail")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.bytes = 0
        self.changes = 0
        self.is_true = False
        """True once its snapshot is whole, or it was resumed."""
        self.last_id = ""
        self.tail = b""

    def take(self, data: bytes) -> None:
        """Look at whole lines; keep the rest."""
        self.bytes += len(data)
        text, newline, rest = (self.tail + data).rpartition(b"\n")
        self.tail = rest
        text += newline
        self.is_true = self.is_true or _LIVE in text
        self.changes += text.count(b"event: changes\n")
        if ids := _ID.findall(text):
            self.last_id = ids[-1].decode()


class Crowd:
    """Context manager: the clients, connected to a port."""

    def __init__(self, port: int, paths: Sequence[str], last_ids: Sequence[str] = ()) -> None:
        self.members: list[Member] = []
        self._poll = select.epoll()
        self._by_number: dict[int, Member] = {}
        ids = last_ids or [""] * len(paths)
        for start in range(0, len(paths), TOGETHER):
            group = [socket.create_connection(("127.0.0.1", port)) for _ in paths[start : start + TOGETHER]]
            for offset, connection in enumerate(group):
                resume = f"Last-Event-ID: {ids[start + offset]}\r\n" if ids[start + offset] else ""
                # HTTP/1.0: the body has no chunks in it.
                head = f"GET {paths[start + offset]} HTTP/1.0\r\nHost: 127.0.0.1\r\n{resume}\r\n"
                connection.sendall(head.encode())
                connection.setblocking(False)
                member = Member(connection)
                self.members.append(member)
                self._by_number[connection.fileno()] = member
                self._poll.register(connection, select.EPOLLIN)
            self.read(0)

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            member.socket.close()
        self._poll.close()

    def read(self, seconds: float) -> int:
        """Read all that is there, or wait for some. Returns the number of bytes."""
        count = 0
        for number, _ in self._poll.poll(seconds, len(self.members)):
            member = self._by_number[number]
            data = member.socket.recv(256 * 1024)
            if not data:
                raise SystemExit("the server has closed a connection")
            member.take(data)
            count += len(data)
        return count

    def until_true(self, seconds: float = 120) -> float:
        """Read until each client is true. Returns the time."""
        began = time.monotonic()
        while not all(member.is_true for member in self.members):
            if time.monotonic() - began > seconds:
                missing = sum(not member.is_true for member in self.members)
                raise SystemExit(f"{missing} clients have no snapshot after {seconds} s")
            self.read(1)
        return time.monotonic() - began

    def until_quiet(self) -> None:
        """Read until nothing has come for a second."""
        while self.read(1):
            pass
