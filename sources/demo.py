"""The demo: a script that is played to each client from the moment it connects."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncIterator

from brook.errors import InvalidId
from brook.event import Batch, Event, Position
from brook.source import Source
from brook.subscription import Subscription

SCRIPT = (
    # seconds after the connection opened, id, data
    (1.0, "demo-1", "Sending 1"),
    (2.0, "demo-2", "Sending 2"),
    (3.0, "demo-3", "Sending 3"),
)


class DemoSource(Source):
    """Plays `SCRIPT` to every client alone, through the same list as everything else.

    One task serves them all: what is due next waits in a heap, at most the script's length for each
    client of the last few seconds.
    """

    def __init__(self, script: tuple[tuple[float, str, str], ...] = SCRIPT) -> None:
        self._script = script
        self._due: list[tuple[float, int, int, Event]] = []
        self._order = itertools.count()
        self._more = asyncio.Event()

    def position(self, id: str) -> Position:
        """A line of the script."""
        if any(id == known for _, known, _ in self._script):
            return Position(id, id)
        raise InvalidId(f"the demo has no event {id!r}")

    def joined(self, subscription: Subscription, since: Position | None) -> None:
        """Start the script for a client, or take it up after the line it has had."""
        now = time.monotonic()
        heard = [id for _, id, _ in self._script].index(since.id) + 1 if since else 0
        for delay, id, data in self._script[heard:]:
            due = (now + delay, next(self._order), subscription.recipient, Event(id, data))
            heapq.heappush(self._due, due)
        self._more.set()

    async def events(self) -> AsyncIterator[Batch]:
        """Each line when it is due, addressed to its client."""
        while True:
            while self._due and self._due[0][0] <= time.monotonic():
                _, _, recipient, event = heapq.heappop(self._due)
                yield Batch((event,), recipient=recipient)
            self._more.clear()
            wait = self._due[0][0] - time.monotonic() if self._due else None
            try:
                await asyncio.wait_for(self._more.wait(), wait)
            except TimeoutError:
                pass
