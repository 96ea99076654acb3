"""Serves subscribers from the source's log when their positions are older than the history."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Any

from brook.delivery.catch_up import Delivery
from brook.delivery.history import History
from brook.delivery.subscriber import CloseReason, State, Subscriber
from brook.errors import CannotResume, HistoryLost
from brook.event import Batch, Position, Reset, ResetReason
from brook.source import Source
from brook.subscription import Subscription

log = logging.getLogger(__name__)

# Clients that reconnect together arrive within some time: a short wait lets one cursor serve them all.
GATHER_SECONDS = 0.05

# Time that a replay waits for its slowest readers before it goes on without them. A slow reader gets a
# replay of its own, from its own position, once its socket has room.
PATIENCE_SECONDS = 0.25
PATIENCE_STEP_SECONDS = 0.01

# Bounds of the bands of ages. Subscribers share a cursor if their positions are in one band. With one cursor
# for all, a client that was seconds behind waited 49 s for twelve clients that asked for 400,000 changes.
BAND_SECONDS = (10, 120, 1800, 6 * 3600)

# Time after which a replay gives way to subscribers with newer positions. It continues later.
SHARE_SECONDS = 1.0

# Size above which a batch gives the event loop a turn before each subscription.
LARGE_BATCH_BYTES = 2 * 1024 * 1024

# Number of characters of an id that a reset repeats: enough to recognise the id.
SINCE_CHARACTERS = 200


class Replayer:
    """Reads the log for subscribers that are behind the history, with at most `cursors` cursors at once.

    Waiting subscribers share a cursor, which starts at the oldest of their positions. Each subscriber is
    sent the events after its own position, once the log has shown the event at that position. It goes
    back to the list as soon as the history covers its position.
    """

    def __init__(
        self,
        source: Source,
        history: History,
        cursors: int,
        *,
        gather_seconds: float = GATHER_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
        share_seconds: float = SHARE_SECONDS,
    ) -> None:
        self._source = source
        self._history = history
        self._cursors = cursors
        self._gather_seconds = gather_seconds
        self._patience_seconds = patience_seconds
        self._share_seconds = share_seconds
        self._taken: dict[Subscriber, Delivery] = {}
        self._waiting: dict[Subscriber, None] = {}
        self._reading: list[set[Subscriber]] = []
        self._workers: set[asyncio.Task[Any] | None] = set()
        self._probing = False
        self._lost = ""
        """The key of the newest lost position, while the beginning of the log is looked for."""
        self._last_band = -1

    @property
    def open_cursors(self) -> int:
        """Number of replays that are running."""
        return len(self._reading)

    def take(self, subscriber: Subscriber, delivery: Delivery) -> None:
        self._taken[subscriber] = delivery
        self._waiting[subscriber] = None
        self._engage()

    def forget(self, subscriber: Subscriber) -> None:
        self._taken.pop(subscriber, None)
        self._waiting.pop(subscriber, None)
        for reading in self._reading:
            reading.discard(subscriber)

    def _engage(self) -> None:
        """Start another worker, if subscribers wait and the number of cursors allows it."""
        if self._waiting and len(self._workers) < self._cursors:
            worker = asyncio.create_task(self._work(), name="replay")
            self._workers.add(worker)

    async def close(self) -> None:
        """Stop all workers. Waiting subscribers stay in their state."""
        workers = [worker for worker in self._workers if worker is not None]
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self) -> None:
        try:
            await asyncio.sleep(self._gather_seconds)
            while subscribers := self._take_next():
                await self._serve(subscribers)
                # A source that ends its replay at once must not block the event loop.
                await asyncio.sleep(0)
        except Exception:
            # No task awaits a worker: without this, its subscribers would wait for ever.
            log.exception("replays failed; the waiting clients are cut off and will reconnect")
            self._cut_off(self._waiting)
        finally:
            # Not in a done callback: a subscriber taken before it ran would start no worker.
            self._workers.discard(asyncio.current_task())

    async def _serve(self, subscribers: set[Subscriber]) -> None:
        self._reading.append(subscribers)
        try:
            await self._replay(subscribers)
        except Exception:
            log.exception("a replay failed; its clients are cut off and will reconnect")
            self._cut_off(subscribers)
        finally:
            self._reading = [others for others in self._reading if others is not subscribers]

    def _give_back(self, subscriber: Subscriber, reset: Reset | None = None) -> None:
        self._taken.pop(subscriber).take_back(subscriber, reset)

    def _cut_off(self, subscribers: Iterable[Subscriber]) -> None:
        for subscriber in list(subscribers):
            self._taken[subscriber].cut(subscriber, CloseReason.REPLAY_FAILED)

    def _take_next(self) -> set[Subscriber]:
        """Choose the subscribers for the next replay: behind the history, with positions in one band of ages.

        After a lost position, the older half keeps waiting: a binary search finds the beginning of the
        log in a few steps, for any number of lost positions. Positions ahead of the history come last,
        the latest one first. Another server issued them, or they are forged: each is checked by itself,
        unless the history reaches it before.
        """
        self._release(self._waiting)
        waiting = sorted(self._replaying(self._waiting), key=_key)
        behind = bisect_right(waiting, self._history.head, key=_key)
        first, last = self._choose(waiting[:behind])
        if not behind and waiting:
            first, last = bisect_left(waiting, _key(waiting[-1]), key=_key), len(waiting)
        self._waiting = dict.fromkeys(waiting[:first] + waiting[last:])
        if not self._probing:
            self._engage()
        return set(waiting[first:last])

    def _choose(self, behind: list[Subscriber]) -> tuple[int, int]:
        """The slice of these sorted subscribers to serve next: the newest band, and in turn the oldest."""
        if self._probing or not behind:
            return len(behind) // 2, len(behind)
        bands = [self._band(subscriber) for subscriber in behind]
        chosen = bands[0] if bands[-1] == self._last_band else bands[-1]
        self._last_band = chosen
        return bands.index(chosen), len(bands) - bands[::-1].index(chosen)

    def _band(self, subscriber: Subscriber) -> int:
        """Index of a position's band of ages: 0 for the newest positions."""
        return bisect_left(BAND_SECONDS, self._source.age_seconds(_position(subscriber)))

    def _is_due(self, band: int, began: float) -> bool:
        """True if a replay has had its share of time, and newer positions wait without a free cursor."""
        if not self._waiting or len(self._workers) < self._cursors:
            return False
        if time.monotonic() - began < self._share_seconds:
            return False
        return any(self._band(subscriber) < band for subscriber in self._replaying(self._waiting))

    async def _replay(self, subscribers: set[Subscriber]) -> None:
        start = min(_position(subscriber) for subscriber in subscribers)
        band = max(map(self._band, subscribers))
        began = time.monotonic()
        begun = False
        try:
            async with contextlib.aclosing(self._source.replay(start)) as batches:
                async for batch in batches:
                    if not begun:
                        # The first batch proves that the log holds `start`.
                        begun = True
                        self._probing = False
                        self._lost = ""
                        self._engage()
                    subscribers.update(self._joining(batch))
                    await self._deliver(subscribers, batch)
                    await _wait_for_slow(subscribers, self._patience_seconds)
                    self._release(subscribers)
                    if not subscribers:
                        return
                    if self._is_due(band, began):
                        break
        except CannotResume as error:
            self._cannot_resume(subscribers, error)
        self._waiting.update(dict.fromkeys(self._replaying(subscribers)))

    def _joining(self, batch: Batch) -> list[Subscriber]:
        """Remove from the waiting the subscribers with a position inside this batch."""
        if not batch.events or not self._waiting:
            return []
        first, last = batch.events[0].key, batch.events[-1].key
        joining = [
            subscriber
            for subscriber in self._replaying(self._waiting)
            if first <= _position(subscriber).until and _key(subscriber) <= last
        ]
        for subscriber in joining:
            del self._waiting[subscriber]
        return joining

    async def _deliver(self, subscribers: set[Subscriber], batch: Batch) -> None:
        """Send each subscriber the events of a batch after its position."""
        end = self._end(batch)
        if end is None:
            return
        keys = [event.key for event in batch.events]
        following: dict[tuple[Subscription, ...], dict[int, list[Subscriber]]] = {}
        for subscriber in self._replaying(subscribers):
            position = _position(subscriber)
            first = _first_after(batch, keys, position)
            if end < position or (first is None and end.key < position.until):
                continue  # not there yet
            if first is None:
                # The log has passed the position without its event.
                subscribers.discard(subscriber)
                self._give_back(subscriber, _reset(ResetReason.INVALID_ID, position))
                continue
            subscriber.advance(end)
            following.setdefault(subscriber.replayed, {}).setdefault(first, []).append(subscriber)
        decoded = [event.decode() for event in batch.events]
        large = sum(event.size for event in batch.events) > LARGE_BATCH_BYTES
        # One subscription at a time: the frames of all together can be many times the batch.
        for subscriptions, by_first in following.items():
            if large:
                await asyncio.sleep(0)
            frames = [b"".join(event.frame(each) for each in subscriptions) for event in decoded]
            for first, alike in by_first.items():
                self._send(alike, frames[first:], None if batch.unfinished else end)

    def _send(self, subscribers: Iterable[Subscriber], frames: list[bytes], end: Position | None) -> None:
        data = b"".join(frames)
        count = sum(map(bool, frames))
        for subscriber in self._replaying(subscribers):
            subscriber.count(count, 0)
            reader = subscriber.reader
            more = b"" if reader is None or not data else reader.replayed(end, len(data))
            self._taken[subscriber].send(subscriber, data + more)

    def _end(self, batch: Batch) -> Position | None:
        """The end of a batch: its last event, or its checkpoint.

        The checkpoint counts only up to the history's head. While clients write to other collections, it
        would always be slightly ahead of the head, and no subscriber would ever be given back.
        """
        ends = [Position(event.key, event.id, exact=False) for event in batch.events[-1:]]
        if batch.checkpoint is not None:
            head = Position(self._history.head, "", exact=False)
            ends.append(min(batch.checkpoint, head))
        return max(ends, default=None)

    def _release(self, subscribers: set[Subscriber] | dict[Subscriber, None]) -> None:
        """Drop subscribers that have left. Give back the slow ones, and the ones that the history covers."""
        for subscriber in list(subscribers):
            if subscriber.state is not State.REPLAYING:
                _remove(subscribers, subscriber)
                continue
            position = _position(subscriber)
            if self._history.covers(position) or (subscriber.waiting and not position.exact):
                _remove(subscribers, subscriber)
                self._give_back(subscriber)

    def _cannot_resume(self, subscribers: set[Subscriber], error: CannotResume) -> None:
        """Reset the subscribers with a lost position. The others are tried again."""
        lost = isinstance(error, HistoryLost)
        reason = ResetReason.HISTORY_LOST if lost else ResetReason.INVALID_ID
        self._probing = lost
        # The replay began at its oldest position. Every position before a lost one is lost too, also in the
        # older half, which waits. Every position after a position in the future is in the future too.
        hopeless = self._replaying(subscribers)
        if lost:
            # Another worker may have found a newer one meanwhile, while these were being read.
            self._lost = max(self._lost, min(map(_key, hopeless), default=""))
            everyone = [*hopeless, *self._replaying(self._waiting)]
            hopeless = [subscriber for subscriber in everyone if _key(subscriber) <= self._lost]
        for subscriber in hopeless:
            subscribers.discard(subscriber)
            self._waiting.pop(subscriber, None)
            self._give_back(subscriber, _reset(reason, _position(subscriber)))

    @staticmethod
    def _replaying(subscribers: Iterable[Subscriber]) -> list[Subscriber]:
        return [subscriber for subscriber in subscribers if subscriber.state is State.REPLAYING]


def _position(subscriber: Subscriber) -> Position:
    assert subscriber.position is not None  # every subscriber in state REPLAYING has one
    return subscriber.position


def _remove(subscribers: set[Subscriber] | dict[Subscriber, None], subscriber: Subscriber) -> None:
    if isinstance(subscribers, dict):
        del subscribers[subscriber]
    else:
        subscribers.remove(subscriber)


def _key(subscriber: Subscriber) -> str:
    return _position(subscriber).key


def _first_after(batch: Batch, keys: list[str], position: Position) -> int | None:
    """The index of the first event after a position; None if its event is not in the batch."""
    if not position.exact:
        return bisect_right(keys, position.key)
    for index in range(bisect_left(keys, position.key), bisect_right(keys, position.until)):
        if batch.events[index].id == position.id:
            return index + 1
    return None


def _reset(reason: ResetReason, position: Position) -> Reset:
    return Reset(reason, since=position.id[:SINCE_CHARACTERS])


async def _wait_for_slow(subscribers: Iterable[Subscriber], seconds: float) -> None:
    """Wait for readers with full sockets, at most `seconds`: the slowest sets the pace."""
    waited = 0.0
    while waited < seconds and any(subscriber.waiting for subscriber in subscribers):
        await asyncio.sleep(PATIENCE_STEP_SECONDS)
        waited += PATIENCE_STEP_SECONDS
