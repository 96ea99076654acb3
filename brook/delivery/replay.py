"""Serves subscribers whose position is older than the history, from the source's log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
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

# Clients that return together arrive over some time: a short wait lets one cursor serve them all.
GATHER_SECONDS = 0.05

# How long a replay waits for its slowest readers before it goes on without them; they come back
# with their own position once their socket has room.
PATIENCE_SECONDS = 0.25
PATIENCE_STEP_SECONDS = 0.01

# How much of an id is repeated in a reset: enough to recognise it, not enough to be a burden.
SINCE_CHARACTERS = 200


class Replayer:
    """Reads the log for subscribers that are behind the history, with at most `cursors` cursors at once.

    Waiting subscribers share a cursor, which starts at the oldest of their positions. Each is sent the
    events after its own position, once the event that it names was seen to exist. A subscriber goes back
    to the list as soon as the history covers its position.
    """

    def __init__(
        self,
        source: Source,
        history: History,
        cursors: int,
        *,
        gather_seconds: float = GATHER_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._source = source
        self._history = history
        self._cursors = cursors
        self._gather_seconds = gather_seconds
        self._patience_seconds = patience_seconds
        self._taken: dict[Subscriber, Delivery] = {}
        self._waiting: dict[Subscriber, None] = {}
        self._reading: list[set[Subscriber]] = []
        self._workers: set[asyncio.Task[Any] | None] = set()
        self._probing = False

    def take(self, subscriber: Subscriber, delivery: Delivery) -> None:
        self._taken[subscriber] = delivery
        self._waiting[subscriber] = None
        self._engage()

    def forget(self, subscriber: Subscriber) -> None:
        self._taken.pop(subscriber, None)
        self._waiting.pop(subscriber, None)
        for members in self._reading:
            members.discard(subscriber)

    def _engage(self) -> None:
        """Put another worker to work, if there may be one."""
        if self._waiting and len(self._workers) < self._cursors:
            worker = asyncio.create_task(self._work(), name="replay")
            self._workers.add(worker)

    async def close(self) -> None:
        """Stop reading; those who wait stay where they are."""
        workers = [worker for worker in self._workers if worker is not None]
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self) -> None:
        try:
            await asyncio.sleep(self._gather_seconds)
            while members := self._take():
                await self._serve(members)
                # A source that ends its replay at once must not keep the loop busy.
                await asyncio.sleep(0)
        except Exception:
            # Nobody awaits a worker: those who wait for one would do so for ever.
            log.exception("replays failed; those who wait for one are cut off and will come back")
            self._cut_off(self._waiting)
        finally:
            # At once, and not when the task is done: who is added in between needs a worker.
            self._workers.discard(asyncio.current_task())

    async def _serve(self, members: set[Subscriber]) -> None:
        self._reading.append(members)
        try:
            await self._replay(members)
        except Exception:
            log.exception("a replay failed; its clients are cut off and will come back")
            self._cut_off(members)
        finally:
            self._reading = [others for others in self._reading if others is not members]

    def _give_back(self, member: Subscriber, reset: Reset | None = None) -> None:
        self._taken.pop(member).take_back(member, reset)

    def _cut_off(self, members: Iterable[Subscriber]) -> None:
        for member in list(members):
            self._taken[member].cut(member, CloseReason.REPLAY_FAILED)

    def _take(self) -> set[Subscriber]:
        """The subscribers for the next replay: all that wait and are behind the history.

        After a position turned out to be lost, the older half is left waiting: however many come
        back with lost positions, the log's beginning is found in a few steps. Positions ahead of the
        history, which another server gave out or nobody did, come last, and the latest first: each has
        to be checked by itself, unless the history reaches it before.
        """
        self._release(self._waiting)
        waiting = sorted(self._live(self._waiting), key=_key)
        behind = bisect_right(waiting, self._history.head, key=_key)
        first, last = (behind // 2 if self._probing else 0), behind
        if not behind and waiting:
            first, last = bisect_left(waiting, _key(waiting[-1]), key=_key), len(waiting)
        self._waiting = dict.fromkeys(waiting[:first] + waiting[last:])
        if not self._probing:
            self._engage()
        return set(waiting[first:last])

    async def _replay(self, members: set[Subscriber]) -> None:
        start = min(_position(member) for member in members)
        begun = False
        try:
            async with contextlib.aclosing(self._source.replay(start)) as batches:
                async for batch in batches:
                    if not begun:
                        # The log holds `start`. (Later batches say nothing of what others are probing.)
                        begun = True
                        self._probing = False
                        self._engage()
                    members.update(self._joining(batch))
                    self._deliver(members, batch)
                    await _wait_for_slow(members, self._patience_seconds)
                    self._release(members)
                    if not members:
                        return
        except CannotResume as error:
            self._cannot_resume(members, error)
        self._waiting.update(dict.fromkeys(self._live(members)))

    def _joining(self, batch: Batch) -> list[Subscriber]:
        """Those that wait for a worker and whose position this batch is just passing."""
        if not batch.events or not self._waiting:
            return []
        first, last = batch.events[0].key, batch.events[-1].key
        joining = [member for member in self._live(self._waiting) if first <= _key(member) <= last]
        for member in joining:
            del self._waiting[member]
        return joining

    def _deliver(self, members: set[Subscriber], batch: Batch) -> None:
        """Send to each member what of a batch follows its position."""
        end = self._end(batch)
        if end is None:
            return
        keys = [event.key for event in batch.events]
        following: dict[Subscription, dict[int, list[Subscriber]]] = {}
        for member in self._live(members):
            position = _position(member)
            if end < position:
                continue  # not there yet
            if position.exact and not _holds(batch, keys, position):
                # The log has passed the place, and the event was not in it.
                members.discard(member)
                self._give_back(member, _reset(ResetReason.INVALID_ID, position))
                continue
            member.advance(end)
            first = bisect_right(keys, position.key)
            following.setdefault(member.subscription, {}).setdefault(first, []).append(member)
        decoded = [event.decode() for event in batch.events]
        # One subscription after the other: what all of them get together can be many times the batch.
        for subscription, by_first in following.items():
            frames = [event.frame(subscription) for event in decoded]
            for first, alike in by_first.items():
                self._send(alike, frames[first:])

    def _send(self, members: Iterable[Subscriber], frames: list[bytes]) -> None:
        data = b"".join(frames)
        count = sum(map(bool, frames))
        for member in members:
            member.count(count, 0)
            self._taken[member].send(member, data)

    def _end(self, batch: Batch) -> Position | None:
        """Up to where a batch goes: its last event, or its checkpoint.

        The checkpoint counts up to the history's head only: while other collections are written to, it
        would always be a little ahead of it, and nobody would ever be handed over.
        """
        ends = [Position(event.key, event.id, exact=False) for event in batch.events[-1:]]
        if batch.checkpoint is not None:
            head = Position(self._history.head, "", exact=False)
            ends.append(min(batch.checkpoint, head))
        return max(ends, default=None)

    def _release(self, members: set[Subscriber] | dict[Subscriber, None]) -> None:
        """Let go of those who have left, of the slow, and of those whom the history covers."""
        for member in list(members):
            if member.state is not State.REPLAYING:
                _remove(members, member)
            elif self._history.covers(_position(member)) or (member.waiting and not _position(member).exact):
                _remove(members, member)
                self._give_back(member)

    def _cannot_resume(self, members: set[Subscriber], error: CannotResume) -> None:
        """Reset those for whom there is no hope; the others will be tried again."""
        lost = isinstance(error, HistoryLost)
        reason = ResetReason.HISTORY_LOST if lost else ResetReason.INVALID_ID
        self._probing = lost
        # The replay began at the oldest position. What is before a lost one is lost too: those who wait
        # in the older half. What is after one that lies in the future does so too.
        hopeless = self._live(members)
        if lost:
            oldest = min(map(_key, hopeless), default="")
            everyone = [*hopeless, *self._live(self._waiting)]
            hopeless = [member for member in everyone if _key(member) <= oldest]
        for member in hopeless:
            members.discard(member)
            self._waiting.pop(member, None)
            self._give_back(member, _reset(reason, _position(member)))

    @staticmethod
    def _live(members: Iterable[Subscriber]) -> list[Subscriber]:
        return [member for member in members if member.state is State.REPLAYING]


def _position(member: Subscriber) -> Position:
    assert member.position is not None  # every subscriber in state REPLAYING has one
    return member.position


def _remove(members: set[Subscriber] | dict[Subscriber, None], member: Subscriber) -> None:
    if isinstance(members, dict):
        del members[member]
    else:
        members.remove(member)


def _key(member: Subscriber) -> str:
    return _position(member).key


def _holds(batch: Batch, keys: list[str], position: Position) -> bool:
    index = bisect_left(keys, position.key)
    return index < len(keys) and batch.events[index].id == position.id


def _reset(reason: ResetReason, position: Position) -> Reset:
    return Reset(reason, since=position.id[:SINCE_CHARACTERS])


async def _wait_for_slow(members: Iterable[Subscriber], seconds: float) -> None:
    """Wait a little for readers whose sockets are full: their pace is the replay's."""
    waited = 0.0
    while waited < seconds and any(member.waiting for member in members):
        await asyncio.sleep(PATIENCE_STEP_SECONDS)
        waited += PATIENCE_STEP_SECONDS
