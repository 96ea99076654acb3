"""The pump from a source to the subscriber list."""

from __future__ import annotations

import asyncio
import logging
import time

from brook.delivery.subscribers import SubscriberList
from brook.errors import BrookError
from brook.event import Batch, Position
from brook.histogram import Histogram
from brook.source import Source

log = logging.getLogger(__name__)

# A larger batch is published in turns. A thousand small changes have some 500 kB. The slowest batch, 16 MB of
# control characters, takes a second to render for each distinct subscription, and in one turn the health
# check would wait for all of them.
LARGE_BATCH_BYTES = 2 * 1024 * 1024


class Feed:
    """Publishes the batches of a source. `run` never returns: when it raises, no more events will come, and
    its caller has to stop serving. A dead feed is never silent.
    """

    def __init__(self, source: Source, subscribers: SubscriberList) -> None:
        self._source = source
        self._subscribers = subscribers
        self.running = False
        """True while clients can be let in: the history is filled, and the source has not failed."""
        self.started = asyncio.Event()
        """Set when the history is filled and live events begin to flow."""
        self.events = 0
        """Number of events that the source has yielded since the history was filled."""
        self.position: Position | None = None
        """The last checkpoint: everything up to it was published."""
        self.lag = Histogram()
        """Seconds from an event to its publication, once for each batch."""
        self.publishing = Histogram()
        """Seconds that a publication takes, once for each batch."""

    async def run(self) -> None:
        """Pump for ever. Raises the source's error, or BrookError if the source ends."""
        try:
            async for batch in self._source.past():
                self._subscribers.publish(batch)
                self.position = batch.checkpoint or self.position
            self.running = True
            self.started.set()
            async for arrived in self._source.events():
                if arrived.incomplete and not self._subscribers.wants_documents():
                    self._subscribers.skip(arrived)
                    self._count(arrived)
                    continue
                async for batch in self._source.complete(arrived):
                    await self._publish(batch)
                    # A source with a backlog would otherwise keep accepts and keep-alives waiting.
                    await asyncio.sleep(0)
        finally:
            self.running = False
        raise BrookError("the source has ended; its events() must never end")

    async def _publish(self, batch: Batch) -> None:
        lag = self._source.lag_seconds(batch) if batch.events else None
        began = time.monotonic()
        if sum(event.size for event in batch.events) > LARGE_BATCH_BYTES:
            await self._subscribers.publish_in_turns(batch)
        else:
            self._subscribers.publish(batch)
        self._count(batch)
        if batch.events:
            self.publishing.observe(time.monotonic() - began)
        if lag is not None:
            self.lag.observe(lag)

    def _count(self, batch: Batch) -> None:
        self.events += len(batch.events)
        self.position = batch.checkpoint or self.position

    def not_ready_reasons(self) -> list[str]:
        """The reasons why no events flow at the moment; empty while they flow."""
        if not self.started.is_set():
            return ["the history is being filled"]
        if not self.running:
            return ["the feed has stopped"]
        return [self._source.interruption] if self._source.interruption else []
