"""The periodic work of the subscriber list, and its drain at the end.

Keep-alives, stuck clients, the ends of leases and of long connections, notices about the feed, old events.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from brook import sse
from brook.delivery.history import History
from brook.delivery.subscriber import CloseReason, State, Subscriber
from brook.delivery.subscribers import SubscriberList
from brook.settings import Settings
from brook.source import Source

# Number of keep-alives before the event loop gets a turn. (A fan-out is sent in one turn.)
KEEP_ALIVES_PER_TURN = 500

# Time before an interruption is announced. An election takes less.
INTERRUPTED_SECONDS = 5.0

INTERRUPTED = sse.frame('{"state":"interrupted"}', event="feed")
LIVE = sse.frame('{"state":"live"}', event="feed")

# The goodbyes of a drain are spread over this part of its time; the rest is for clients that read slowly.
SPREAD = 0.8

# A drain of few clients takes less time: they need not be spread out further than this.
GOODBYES_PER_SECOND = 100

# Time between two rounds of goodbyes.
ROUND_SECONDS = 0.05


class Keeper:
    """Does the work on a list of subscribers that no event causes. Awaits only between its steps."""

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
        """Do the periodic work for ever. Must be awaited: an exception ends it."""
        pause = min(1.0, self._settings.heartbeat_seconds / 4, self._settings.write_timeout_seconds / 4)
        while True:
            await asyncio.sleep(pause)
            self._subscribers.expire()
            self._disconnect_stuck()
            self._announce_feed()
            self._rotate()
            self._end_leases()
            await self._keep_alive()

    async def drain(self, reason: CloseReason, timeout_seconds: float) -> None:
        """Say goodbye to every subscriber, spread over the time: not all of them should arrive at the other
        servers at once. Returns when all have left; cuts off the rest at the timeout.
        """
        began = time.monotonic()
        remaining = list(self._subscribers)
        seconds = min(SPREAD * timeout_seconds, len(remaining) / GOODBYES_PER_SECOND)
        rounds = max(1, round(seconds / ROUND_SECONDS))
        for number in range(rounds):
            for subscriber in remaining[number::rounds]:
                self._subscribers.say_goodbye(subscriber, reason)
            if number + 1 < rounds:
                await asyncio.sleep(seconds / rounds)
        try:
            left_seconds = max(0.0, began + timeout_seconds - time.monotonic())
            await asyncio.wait_for(self._subscribers.empty.wait(), left_seconds)
        except TimeoutError:
            for subscriber in list(self._subscribers):
                self._subscribers.cut(subscriber, reason)

    def _disconnect_stuck(self) -> None:
        due = self._clock() - self._settings.write_timeout_seconds
        for subscriber in list(self._subscribers):
            if subscriber.waiting and subscriber.progress_at <= due:
                self._subscribers.cut(subscriber, CloseReason.WRITE_TIMEOUT)

    def _rotate(self) -> None:
        """Say goodbye to the clients that have reached their share of `connection_max_seconds`."""
        max_seconds = self._settings.connection_max_seconds
        if not max_seconds:
            return
        now = self._clock()
        for subscriber in list(self._subscribers):
            age = now - subscriber.joined
            if age >= max_seconds / 2 and age >= max_seconds * _share(subscriber):
                self._subscribers.say_goodbye(subscriber, CloseReason.MAX_AGE)

    def _end_leases(self) -> None:
        """Say goodbye to the clients with an expired lease: they may come back with new credentials."""
        now = time.time()
        for subscriber in list(self._subscribers):
            if subscriber.lease is not None and subscriber.lease.expires <= now:
                self._subscribers.say_goodbye(subscriber, CloseReason.TOKEN_EXPIRED)

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


def _share(subscriber: Subscriber) -> float:
    """A share from 0.5 to 1, evenly spread over the subscribers, and always the same for one of them.

    It is computed from the subscriber's address in memory: a stored number would cost memory for each client.
    """
    return 0.5 + (hash(subscriber) * 2654435761 % 2**32) / 2**33
