"""The background task of the subscriber list: keep-alives, stuck clients, old history, the goodbye."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from brook import sse
from brook.delivery.history import History
from brook.delivery.subscriber import CloseReason, State
from brook.delivery.subscribers import SubscriberList
from brook.settings import Settings
from brook.source import Source

# Number of keep-alives before the event loop gets a turn. (A fan-out is sent in one turn.)
KEEP_ALIVES_PER_TURN = 500

# Time before an interruption is announced. The driver survives an election in less.
INTERRUPTED_SECONDS = 5.0

INTERRUPTED = sse.frame('{"state":"interrupted"}', event="feed")
LIVE = sse.frame('{"state":"live"}', event="feed")


class Keeper:
    """Looks after the subscribers of a list, beside the events. Awaits only between its steps."""

    def __init__(
        self,
        settings: Settings,
        history: History,
        subscribers: SubscriberList,
        source: Source,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._history = history
        self._subscribers = subscribers
        self._source = source
        self._clock = clock
        self._interrupted_at: float | None = None
        self._announced = False

    async def run(self) -> None:
        """Send keep-alives, disconnect stuck clients and evict old events, for ever. Must be awaited."""
        pause = min(1.0, self._settings.heartbeat_seconds / 4, self._settings.write_timeout_seconds / 4)
        while True:
            await asyncio.sleep(pause)
            self._subscribers.expire()
            self._disconnect_stuck()
            self._announce_feed()
            await self._keep_alive()

    async def drain(self, reason: CloseReason, timeout_seconds: float) -> None:
        """Say goodbye to every subscriber. Returns when all have left; cuts off the rest at the timeout."""
        for subscriber in list(self._subscribers):
            self._subscribers.say_goodbye(subscriber, reason)
        try:
            await asyncio.wait_for(self._subscribers.empty.wait(), timeout_seconds)
        except TimeoutError:
            for subscriber in list(self._subscribers):
                self._subscribers.cut(subscriber, reason)

    def _disconnect_stuck(self) -> None:
        due = self._clock() - self._settings.write_timeout_seconds
        for subscriber in list(self._subscribers):
            if subscriber.waiting and subscriber.progress_at <= due:
                self._subscribers.cut(subscriber, CloseReason.WRITE_TIMEOUT)

    def _announce_feed(self) -> None:
        """Tell the clients when the source has been interrupted for some time, and when it recovers."""
        now = self._clock()
        if self._source.interruption is None:
            self._interrupted_at = None
        elif self._interrupted_at is None:
            self._interrupted_at = now
        since = self._interrupted_at
        interrupted = since is not None and now - since >= INTERRUPTED_SECONDS
        if interrupted != self._announced:
            self._announced = interrupted
            self._subscribers.announce(INTERRUPTED if interrupted else LIVE, to_newcomers=interrupted)

    async def _keep_alive(self) -> None:
        """Write to every subscriber that has been sent nothing for a heartbeat."""
        due = self._clock() - self._settings.heartbeat_seconds
        sent = 0
        for group in self._subscribers.groups:
            for fanout in group.fanouts.values():
                if fanout.sent_at <= due:
                    self._subscribers.keep_alive(group, fanout)
                    sent += len(fanout)
                else:
                    self._subscribers.show_progress(group, fanout)
            if sent >= KEEP_ALIVES_PER_TURN:
                sent = 0
                await asyncio.sleep(0)
        for subscriber in list(self._subscribers):
            replaying = subscriber.state is State.REPLAYING
            if replaying and not subscriber.waiting and subscriber.sent_at <= due:
                self._subscribers.send(subscriber, sse.KEEP_ALIVE)
                sent += 1
                if sent % KEEP_ALIVES_PER_TURN == 0:
                    await asyncio.sleep(0)
