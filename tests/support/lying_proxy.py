"""A proxy that changes what passes: a server that keeps all rules but one."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Self

Lie = Callable[[bytes], bytes]


def honest(piece: bytes) -> bytes:
    return piece


def without(pattern: bytes) -> Lie:
    return changed(pattern, b"")


def changed(pattern: bytes, by: bytes) -> Lie:
    return lambda piece: re.sub(pattern, by, piece)


def judged(printed: str) -> dict[str, str]:
    """The first word of the conformance suite's line about each rule."""
    return {name: word for word, name in re.findall(r"^(ok|BREACH|-) +([a-z0-9-]+) ", printed, re.M)}


class LyingProxy:
    """Passes each request on with HTTP/1.0, so that the body that comes back is bare and can be changed."""

    def __init__(self, port: int, answer: Lie = honest, request: Lie = honest) -> None:
        self._upstream = port
        self._answer = answer
        self._request = request
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with (
            suppress(OSError),
            closing(client),
            socket.create_connection(("127.0.0.1", self._upstream)) as server,
        ):
            server.sendall(self._request(_read_request(client)).replace(b"HTTP/1.1\r\n", b"HTTP/1.0\r\n", 1))
            threading.Thread(target=_leave_together, args=(client, server), daemon=True).start()
            while piece := server.recv(2**20):
                client.sendall(self._answer(piece))
            client.shutdown(socket.SHUT_RDWR)


def _read_request(client: socket.socket) -> bytes:
    """The head of a request, and its body."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += client.recv(65536)
    head, _, body = got.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    while len(body) < (int(length[1]) if length else 0):
        body += client.recv(65536)
    return head + b"\r\n\r\n" + body


def _leave_together(client: socket.socket, server: socket.socket) -> None:
    """The server's connection ends when the client leaves."""
    with suppress(OSError):
        while client.recv(65536):
            pass
        server.shutdown(socket.SHUT_RDWR)
