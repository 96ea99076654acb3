"""Tells when a stream's client says something, or leaves."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable

# How many are told of in one turn of the loop; the others in the next.
TOLD_PER_TURN = 1000


class Watcher:
    """Watches all streams' sockets with one registration at the event loop, where the system can (Linux).

    The loop's own registration makes five objects for a socket: a sixth of what an idle client costs, and a
    fifteenth of what it costs to let one in.
    """

    def __init__(self) -> None:
        self._called: dict[int, Callable[[], None]] = {}
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, number: int, call: Callable[[], None]) -> None:
        """Call when there is something to read from the socket of this number, or its end."""
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
        """Watch a socket no more. To be called before it is closed, whose number may then be another's."""
        if self._epoll is None:
            asyncio.get_running_loop().remove_reader(number)
        elif self._called.pop(number, None) is not None:
            self._epoll.unregister(number)

    def _look(self) -> None:
        assert self._epoll is not None
        for number, _ in self._epoll.poll(0, TOLD_PER_TURN):
            if (call := self._called.get(number)) is not None:
                call()
