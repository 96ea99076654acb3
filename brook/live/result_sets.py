"""All result sets: reads their snapshots, applies each batch, and serves clients until they are live."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing

from brook.changes import resume_token
from brook.changes.change import DecodedChange
from brook.delivery.history import History
from brook.delivery.live import Step
from brook.delivery.subscriber import Subscriber
from brook.errors import SnapshotTooLarge, SnapshotUnavailable
from brook.event import Batch, DecodedEvent, Position, ResetReason
from brook.live import frames
from brook.live.index import Index
from brook.live.result_set import ResultSet, key_of
from brook.live.snapshot import Snapshot
from brook.settings import Settings
from brook.source import Source
from brook.subscription import Subscription

log = logging.getLogger(__name__)

EVERYTHING = b"\x05\0\0\0\0"
"""The query `{}` as BSON."""

# A collection that cannot be read at a position is read again at a newer one, so often, after a pause.
TRIES = 100
PAUSE_SECONDS = 0.1

# Time for which a complete snapshot serves further clients; its record has the changes since.
SHARE_SECONDS = 1.0


class _Open:
    """One result set with its clients that are not live yet, and its snapshot."""

    def __init__(self, result_set: ResultSet) -> None:
        self.result_set = result_set
        self.snapshot: Snapshot | None = None
        self.snapshot_at = 0.0
        self.waiting: dict[Subscriber, None] = {}
        self.clients = 0
        self.idle_since = 0.0
        self.task: asyncio.Task[None] | None = None


class ResultSets:
    """Keeps a result set for each distinct live subscription while it has clients, and a while longer."""

    def __init__(
        self,
        settings: Settings,
        source: Source,
        history: History,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._source = source
        self._history = history
        self._clock = clock
        self._open: dict[Subscription, _Open] = {}
        self._index = Index()
        self._cursors: dict[Subscriber, tuple[Snapshot, int]] = {}
        """The clients that read a snapshot, and the number of its frames that each has been sent."""
        self._known: dict[Subscriber, None] = {}
        self._reads = asyncio.Semaphore(settings.snapshot_cursors)

    def __bool__(self) -> bool:
        return bool(self._open)

    def attach(
        self,
        checkpoint: Callable[[], Position | None],
        ready: Callable[[Subscriber], None],
        failed: Callable[[Subscriber, Exception], None],
    ) -> None:
        self._checkpoint = checkpoint
        self._ready = ready
        self._failed = failed

    async def close(self) -> None:
        """Stop all reads."""
        tasks = [opened.task for opened in self._open.values() if opened.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- clients that are not live yet -------------------------------------------------------------

    def next(self, subscriber: Subscriber) -> Step:
        opened = self._opened(subscriber)
        if subscriber in self._cursors:
            return self._read_on(opened, subscriber)
        if subscriber.position is None:
            self._cursors[subscriber] = self._snapshot(opened), 0
            return self._read_on(opened, subscriber)
        if opened.result_set.members is None:
            self._snapshot(opened)
            return self._wait(opened, subscriber)
        return self._resume(opened, subscriber, subscriber.position)

    def leave(self, subscriber: Subscriber) -> None:
        self._cursors.pop(subscriber, None)
        if subscriber not in self._known:
            return
        del self._known[subscriber]
        opened = self._open[subscriber.subscription]
        opened.waiting.pop(subscriber, None)
        opened.clients -= 1
        opened.idle_since = self._clock()

    def _opened(self, subscriber: Subscriber) -> _Open:
        subscription = subscriber.subscription
        opened = self._open.get(subscription)
        if opened is None:
            opened = self._open[subscription] = _Open(ResultSet(subscription, self._index))
            self._index.add(opened.result_set)
        if subscriber not in self._known:
            self._known[subscriber] = None
            opened.clients += 1
        return opened

    def _wait(self, opened: _Open, subscriber: Subscriber) -> Step:
        opened.waiting[subscriber] = None
        return Step(None)

    def _wake(self, opened: _Open) -> None:
        waiting, opened.waiting = opened.waiting, {}
        for subscriber in waiting:
            self._ready(subscriber)

    def _resume(self, opened: _Open, subscriber: Subscriber, position: Position) -> Step:
        """The missed changes, from the record, or from the history by each document's present state."""
        result_set, now = opened.result_set, self._present()
        data: bytes | None = None
        if now is not None and position.key <= now.key:
            data = result_set.frames_from(position)
            if data is None and self._history.covers(position):
                # The events of its own time, too: there may have been more of them.
                data = result_set.missed(now, self._history.events_after(position.key[:-1]))
        if data is None or now is None:
            # Too old for both: a new snapshot replaces what the client holds.
            self._cursors[subscriber] = self._snapshot(opened), 0
            return self._read_on(opened, subscriber)
        count = len(result_set.members or ())
        return Step(data + frames.end(result_set.subscription.mode, now, count, resumed=True), now)

    def _read_on(self, opened: _Open, subscriber: Subscriber) -> Step:
        snapshot, index = self._cursors[subscriber]
        if index < len(snapshot.frames):
            self._cursors[subscriber] = snapshot, index + 1
            return Step(snapshot.frames[index])
        if not snapshot.complete or snapshot.at is None:
            return self._wait(opened, subscriber)
        del self._cursors[subscriber]
        since = opened.result_set.frames_since(snapshot.number)
        if since is None:
            # The set was forgotten meanwhile, or this client took longer than the record reaches back.
            self._cursors[subscriber] = self._snapshot(opened), 0
            return Step(b"")
        return Step(since, max(snapshot.at, self._present() or snapshot.at))

    # -- batches -----------------------------------------------------------------------------------

    def publish(
        self, batch: Batch, decoded: Sequence[DecodedEvent]
    ) -> Iterator[tuple[Subscription, bytes, Position]]:
        position = _end(batch)
        if batch.restarted:
            yield from self._break_all(position)
        if position is None:
            return
        concerned: dict[ResultSet, list[DecodedEvent]] = {}
        for event in decoded:
            key = key_of(event.document_id) if isinstance(event, DecodedChange) else b""
            for result_set in self._index.find(event, key):
                concerned.setdefault(result_set, []).append(event)
        for result_set, events in concerned.items():
            was_known = result_set.members is not None
            frame = result_set.apply(position, events)
            if frame or (was_known and result_set.members is None):
                yield result_set.subscription, frame, position

    def forget(self) -> None:
        for opened in self._open.values():
            opened.result_set.forget()

    def _break_all(self, position: Position | None) -> Iterator[tuple[Subscription, bytes, Position]]:
        for opened in list(self._open.values()):
            was_known = opened.result_set.members is not None
            opened.result_set.forget(ResetReason.HISTORY_LOST)
            if was_known and position is not None:
                yield opened.result_set.subscription, b"", position

    def expire(self) -> None:
        """Drop the sets that have had no client for a while."""
        due = self._clock() - self._settings.live_linger_seconds
        for subscription, opened in list(self._open.items()):
            if opened.snapshot is not None and opened.snapshot.complete and not self._is_shared(opened):
                opened.snapshot = None
            if not opened.clients and opened.idle_since <= due:
                del self._open[subscription]
                self._index.remove(opened.result_set, opened.result_set.members or ())
                if opened.task is not None:
                    opened.task.cancel()

    def _is_shared(self, opened: _Open) -> bool:
        return self._clock() - opened.snapshot_at < SHARE_SECONDS

    # -- snapshots ---------------------------------------------------------------------------------

    def _snapshot(self, opened: _Open) -> Snapshot:
        """The snapshot for a client that begins now: one that is being read, a fresh one, or a new one."""
        current = opened.snapshot
        if current is not None and (not current.complete or self._is_usable(opened, current)):
            return current
        snapshot = opened.snapshot = Snapshot(opened.result_set, self._settings.snapshot_max_documents)
        opened.task = asyncio.create_task(self._read(opened, snapshot), name="snapshot")
        return snapshot

    def _is_usable(self, opened: _Open, snapshot: Snapshot) -> bool:
        if snapshot.at is None or not self._is_shared(opened):
            return False
        return opened.result_set.frames_since(snapshot.number) is not None

    async def _read(self, opened: _Open, snapshot: Snapshot) -> None:
        """Read a snapshot. Runs as a task: an exception ends in `failed` for the clients that wait."""
        try:
            async with self._reads:
                await self._read_patiently(opened, snapshot)
        except Exception as error:
            if not isinstance(error, (SnapshotTooLarge, SnapshotUnavailable)):
                log.exception("a result set cannot be read; its clients are cut off and will reconnect")
            if opened.result_set.members is None:
                opened.result_set.forget()
            opened.snapshot = None
            for subscriber in self._clients_of(opened, snapshot):
                self._failed(subscriber, error)

    async def _read_patiently(self, opened: _Open, snapshot: Snapshot) -> None:
        for _ in range(TRIES):
            at = self._present()
            if at is not None:
                try:
                    if await self._read_at(opened, snapshot, at):
                        return
                except SnapshotUnavailable as error:
                    log.info("a collection is read again, at a newer time: %s", error)
                if snapshot.frames:
                    break  # some clients have a part of it, and have to begin anew
            await asyncio.sleep(PAUSE_SECONDS)
        raise SnapshotUnavailable("the collection could not be read")

    def _present(self) -> Position | None:
        """The position of everything that was published: the checkpoint, or the last event if that is
        later.
        """
        checkpoint, head = self._checkpoint(), self._history.head
        if checkpoint is None or head <= checkpoint.key:
            return checkpoint
        return resume_token.checkpoint(resume_token.cluster_time(head))

    async def _read_at(self, opened: _Open, snapshot: Snapshot, at: Position) -> bool:
        """Read the collection at a position. Returns False if the set could not follow meanwhile."""
        result_set = opened.result_set
        first = result_set.members is None
        if first:
            result_set.begin()
        snapshot.begin(at)
        query = result_set.subscription.filter
        parts = self._source.snapshot(result_set.namespace, EVERYTHING if query is None else query.query, at)
        async with aclosing(parts):
            async for part in parts:
                snapshot.add(part)
                self._wake(opened)
                await asyncio.sleep(0)
        if first and not result_set.reading:
            return False
        snapshot.finish()
        if first:
            snapshot.number = result_set.complete(at, snapshot.members)
        # The set owns them now, and changes them.
        snapshot.members = {}
        opened.snapshot_at = self._clock()
        self._wake(opened)
        return True

    def _clients_of(self, opened: _Open, snapshot: Snapshot) -> list[Subscriber]:
        reading = [each for each, (of, _) in self._cursors.items() if of is snapshot]
        return list(dict.fromkeys([*opened.waiting, *reading]))


def _end(batch: Batch) -> Position | None:
    """The position that a batch leads to: the cluster time of its last event, or its checkpoint if that is
    later.
    """
    if not batch.events:
        return batch.checkpoint
    last = resume_token.checkpoint(resume_token.cluster_time(batch.events[-1].key))
    return max(last, batch.checkpoint or last)
