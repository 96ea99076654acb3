"""Notices when the client of a stream sends something, or leaves."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable

# Number of sockets handled in one turn of the event loop. The others follow in the next turn.
TOLD_PER_TURN = 1000


class Watcher:
    """Watches the sockets of all streams with one registration at the event loop (on Linux).

    The loop's own registration makes five objects for a socket: a sixth of an idle client's memory, and a
    fifteenth of the time to let a client in.
    """

    def __init__(self) -> None:
        self._called: dict[int, Callable[[], None]] = {}
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, number: int, call: Callable[[], None]) -> None:
        """Call `call` when the socket with this number has something to read, or has ended."""
        loop = asyncio.get_running_loop()
        if self._epoll is None:
            loop.add_reader(number, call)
            return
        if self._loop is not loop:
            self._loop = loop
            loop.add_reader(self._epoll.fileno(), self._look)
        self._called[number] = call
        self._epoll.register(number, select.EPOLLIN)

    def remove(self, number: int) -> None:
        """Stop watching a socket. Call it before the socket is closed: its number is then used again."""
        if self._epoll is None:
            asyncio.get_running_loop().remove_reader(number)
        elif self._called.pop(number, None) is not None:
            self._epoll.unregister(number)

    def _look(self) -> None:
        assert self._epoll is not None
        for number, _ in self._epoll.poll(0, TOLD_PER_TURN):
            if (call := self._called.get(number)) is not None:
                call()
