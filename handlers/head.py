"""The head of a stream's response, which Tornado does not write: status line, headers, start of the body."""

from __future__ import annotations

import time

from tornado.httputil import format_timestamp

from handlers.cors import Cors
from handlers.framing import Framing

# These make a response an event stream, and let proxies pass it on without delay.
STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}


class Heads:
    """Caches heads for a second: clients that connect together get the same ones."""

    def __init__(self, cors: Cors) -> None:
        self._cors = cors
        self._second = 0
        self._made: dict[tuple[object, ...], bytes] = {}

    def head(self, framing: Framing, origin: str | None) -> bytes:
        """Return the head for a request of this origin, and the beginning of the body."""
        if (second := int(time.time())) != self._second:
            self._second = second
            self._made.clear()
        cors = tuple(self._cors.headers(origin).items())
        head = self._made.get((framing, cors))
        if head is None:
            head = self._made[framing, cors] = _head(framing, cors, second)
        return head


def _head(framing: Framing, cors: tuple[tuple[str, str], ...], second: int) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Date: {format_timestamp(second)}", "Vary: Accept-Encoding"]
    lines += (f"{name}: {value}" for name, value in (*STREAM_HEADERS.items(), *cors, *framing.headers))
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + framing.start
