"""The demo source: plays a script to each client, starting when the client connects."""

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
    """Plays `SCRIPT` to each client separately, through the same subscriber list as any other source.

    One task serves all clients. A heap holds the events that are not due yet: at most the length of the
    script for each client of the last few seconds.
    """

    def __init__(self, script: tuple[tuple[float, str, str], ...] = SCRIPT) -> None:
        self._script = script
        self._due: list[tuple[float, int, int, Event]] = []
        self._order = itertools.count()
        self._more = asyncio.Event()

    def position(self, id: str) -> Position:
        """Return the position of a line of the script. Raises InvalidId for any other id."""
        if any(id == known for _, known, _ in self._script):
            return Position(id, id)
        raise InvalidId(f"the demo has no event {id!r}")

    def joined(self, subscription: Subscription, since: Position | None) -> None:
        """Start the script for a client, or continue it after the last line that the client received."""
        now = time.monotonic()
        received = [id for _, id, _ in self._script].index(since.id) + 1 if since else 0
        for delay, id, data in self._script[received:]:
            due = (now + delay, next(self._order), subscription.recipient, Event(id, data))
            heapq.heappush(self._due, due)
        self._more.set()

    async def events(self) -> AsyncIterator[Batch]:
        """Yield each line when it is due, addressed to its client."""
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
