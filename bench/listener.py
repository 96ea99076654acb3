"""One client in a thread, which remembers what an EventSource remembers: the numbers and the last id."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections import Counter
from http.client import HTTPConnection, HTTPException
from typing import Self

_NUMBER = re.compile(rb'"n":\s*(\d+)')


class Listener:
    """A client of a stream, from the answer's head on."""

    def __init__(self, port: int, path: str, last_id: str = "") -> None:
        self.last_id = last_id
        self.numbers: list[int] = []
        self.others: Counter[str] = Counter()
        """Events without a number, by name."""
        self._connection = HTTPConnection("127.0.0.1", port)
        self._connection.connect()
        # The connection forgets its socket once the answer has come.
        self._socket: socket.socket = self._connection.sock
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        self._connection.request("GET", path, headers=headers)
        self._answer = self._connection.getresponse()
        if self._answer.status != 200:
            raise SystemExit(f"port {port} answered {self._answer.status}")
        self._arrived = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Cut the connection."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._answer.close()
        self._connection.close()

    def wait_for(self, number: int, seconds: float) -> bool:
        """Wait until this number has come. Return False if it does not come in time."""
        with self._arrived:
            return self._arrived.wait_for(lambda: number in self.numbers[-1:], seconds)

    def wait_for_end(self) -> None:
        """Wait until the server has ended the stream."""
        self._thread.join()

    def _read(self) -> None:
        name, data, event_id = "", b"", self.last_id
        with contextlib.suppress(OSError, HTTPException, ValueError):
            while line := self._answer.readline():
                field, _, value = line.rstrip(b"\r\n").partition(b":")
                value = value.removeprefix(b" ")
                if field == b"id":
                    event_id = value.decode()
                elif field == b"event":
                    name = value.decode()
                elif field == b"data":
                    data += value
                elif not field and not value and line[:1] != b":":
                    self._dispatch(name, data, event_id)
                    name, data = "", b""

    def _dispatch(self, name: str, data: bytes, event_id: str) -> None:
        found = _NUMBER.search(data)
        with self._arrived:
            self.last_id = event_id
            if found:
                self.numbers.append(int(found[1]))
            elif data:
                self.others[name] += 1
            self._arrived.notify_all()
