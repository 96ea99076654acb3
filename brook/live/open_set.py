"""A result set that is in use: with its snapshot, and with the clients that are not live yet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from brook.delivery.history import History
from brook.errors import ClientError, SnapshotUnavailable
from brook.event import DecodedEvent, Position
from brook.live.listing import documents_of
from brook.live.reader import AHEAD_SECONDS, SetReader
from brook.live.result_set import ResultSet
from brook.live.snapshot import Snapshot
from brook.live.window import capacity
from brook.settings import Settings
from brook.source import Source

log = logging.getLogger(__name__)

# A collection that cannot be read at a position is read again at a newer one, after a pause. MongoDB refuses
# positions before the collection was created, or an index was built. The next position comes within a second;
# in an idle sharded cluster, with MongoDB's own no-op in the log, after 10 to 20 seconds.
TRIES = 300
PAUSE_SECONDS = 0.1

# Time for which a complete snapshot serves further clients. The set's record has the changes since then.
SHARE_SECONDS = 1.0


class Timer(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Cancel the call."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The objects and functions that all open sets share."""

    settings: Settings
    source: Source
    history: History
    clock: Callable[[], float]
    reads: asyncio.Semaphore
    present: Callable[[], Position | None]
    """Returns the position up to which everything was published."""
    ahead: dict[OpenSet, None]
    """The sets with clients whose positions are not reached yet. A batch asks only these few sets."""
    flush: Callable[[OpenSet], None]
    """Sends the changes that wait for the pace of a set; later, if a batch is just being published."""


class OpenSet:
    """A result set with the clients that are not live yet. It reads its own snapshots."""

    __slots__ = (
        "_ahead", "_around", "_readers", "_snapshot", "_snapshot_at", "_task", "_waiting",
        "flush_timer", "idle_since", "present", "result_set",
    )  # fmt: skip

    def __init__(self, result_set: ResultSet, surroundings: Surroundings) -> None:
        self.result_set = result_set
        self.present = surroundings.present
        self.idle_since = 0.0
        """Time at which the last client left."""
        self.flush_timer: Timer | None = None
        self._around = surroundings
        self._snapshot: Snapshot | None = None
        self._snapshot_at = 0.0
        self._readers: dict[SetReader, None] = {}
        self._waiting: dict[SetReader, None] = {}
        self._ahead: dict[SetReader, Position] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def in_use(self) -> bool:
        """True while it has clients."""
        return bool(self._readers)

    # -- readers -----------------------------------------------------------------------------------

    def join(self, reader: SetReader) -> None:
        self._readers[reader] = None

    def leave(self, reader: SetReader) -> None:
        self._readers.pop(reader, None)
        self._waiting.pop(reader, None)
        self._ahead.pop(reader, None)
        self.idle_since = self._around.clock()

    def wait(self, reader: SetReader) -> None:
        self._waiting[reader] = None

    def wait_for(self, position: Position, reader: SetReader) -> bool:
        now = self._around.clock()
        if reader.waits_since is None:
            reader.waits_since = now
        if now - reader.waits_since >= AHEAD_SECONDS:
            return False
        self._ahead[reader] = position
        self._around.ahead[self] = None
        return True

    def wake_reached(self, present: Position) -> None:
        """Wake the readers whose position is reached, or that have waited for too long."""
        due = self._around.clock() - AHEAD_SECONDS
        for reader, position in list(self._ahead.items()):
            if position.key <= present.key or (reader.waits_since or 0.0) <= due:
                del self._ahead[reader]
                reader.wake()
        if not self._ahead:
            self._around.ahead.pop(self, None)

    def events_from(self, position: Position) -> Iterable[DecodedEvent] | None:
        history = self._around.history
        # From the beginning of the position's time, too: there may have been more of them.
        return history.events_after(position.key[:16]) if history.covers(position) else None

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for reader in waiting:
            reader.wake()

    # -- the snapshot ------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The snapshot for a client that begins now: one that is being read, a recent one, or a new one."""
        current = self._snapshot
        if current is not None and (not current.complete or self._is_usable(current)):
            return current
        maximum = self._around.settings.snapshot_max_documents
        snapshot = self._snapshot = Snapshot(self.result_set, maximum)
        self._task = asyncio.create_task(self._read(snapshot), name="snapshot")
        return snapshot

    def expire(self) -> None:
        """Drop a complete snapshot that is too old for further clients."""
        if self._snapshot is not None and self._snapshot.complete and not self._is_fresh():
            self._snapshot = None

    @property
    def is_reading(self) -> bool:
        """True while a snapshot is being read, or waits to be."""
        return self._task is not None and not self._task.done()

    def close(self) -> asyncio.Task[None] | None:
        """Stop the read. Returns its task, which has to be awaited."""
        if self.flush_timer is not None:
            self.flush_timer.cancel()
        if self._task is not None:
            self._task.cancel()
        return self._task

    def _is_fresh(self) -> bool:
        return self._around.clock() - self._snapshot_at < SHARE_SECONDS

    def _is_usable(self, snapshot: Snapshot) -> bool:
        return self._is_fresh() and self.result_set.since(snapshot.number) is not None

    async def _read(self, snapshot: Snapshot) -> None:
        """Read a snapshot. Runs as a task: it reports an exception to the clients that wait, by `failed`."""
        try:
            async with self._around.reads:
                await self._read_with_retries(snapshot)
        except Exception as error:
            if not isinstance(error, (ClientError, SnapshotUnavailable)):
                log.exception("a result set cannot be read; its clients are cut off and will reconnect")
            if not self.result_set.known:
                self.result_set.forget()
            self._snapshot = None
            for reader in [
                each for each in self._readers if each in self._waiting or each.snapshot is snapshot
            ]:
                reader.failed(error)
        finally:
            if self._task is asyncio.current_task():
                self._task = None  # an ended task would stay for as long as the set

    async def _read_with_retries(self, snapshot: Snapshot) -> None:
        logged = False
        for _ in range(TRIES):
            at = self.present()
            if at is not None:
                try:
                    if await self._read_at(snapshot, at):
                        return
                except SnapshotUnavailable as error:
                    if not logged:
                        log.info("a collection is read again, at a newer time: %s", error)
                    logged = True
                if snapshot.messages:
                    break  # some clients have received a part of it, and have to begin anew
            await asyncio.sleep(PAUSE_SECONDS)
        raise SnapshotUnavailable("the collection could not be read")

    async def _read_at(self, snapshot: Snapshot, at: Position) -> bool:
        """Read the collection at a position. Returns False if the result set could not follow meanwhile.

        Raises SnapshotUnavailable or ClientError.
        """
        result_set = self.result_set
        first = not result_set.known
        if first:
            result_set.begin()
        elif result_set.waiting:
            # Send the waiting changes first. Merged with later ones, they would not remove a document that
            # only the snapshot shows.
            self._around.flush(self)
            if result_set.waiting or not result_set.known:
                return False
        snapshot.begin(at)
        wanted = result_set.subscription
        limit = capacity(wanted.limit) if wanted.limit else 0
        async with aclosing(documents_of(self._around.source, wanted, at, limit)) as parts:
            async for part in parts:
                snapshot.add(part)
                self._wake()
                await asyncio.sleep(0)
        if first and not result_set.reading:
            return False
        snapshot.finish()
        if first:
            snapshot.number = result_set.complete(at, snapshot.content)
        # The result set owns the content now, and changes it.
        snapshot.content = result_set.collect()
        self._snapshot_at = self._around.clock()
        self._wake()
        return True
