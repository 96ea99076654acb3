"""All result sets: applies each batch to the sets that it concerns, and makes the readers of new clients."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from brook import sse
from brook.changes import resume_token
from brook.changes.change import DecodedChange
from brook.delivery.history import History
from brook.delivery.live import Callbacks, Reader
from brook.delivery.statistics import LiveStatistics
from brook.delivery.subscriber import Subscriber
from brook.errors import ClientError
from brook.event import Batch, DecodedEvent, Position, ResetReason
from brook.live import frames
from brook.live.bundle_reader import BundleReader
from brook.live.frames import Message
from brook.live.index import Index
from brook.live.listing import Listings
from brook.live.members import key_of
from brook.live.open_set import OpenSet, Surroundings, Timer
from brook.live.reader import SetReader
from brook.live.result_set import Arrived, ResultSet
from brook.settings import Settings
from brook.source import Source
from brook.subscription import Bundle, Subscription


@dataclass(frozen=True, slots=True)
class Update:
    """The outcome of a batch for the clients of one result set: an event, or a new snapshot."""

    subscription: Subscription
    position: Position
    message: Message | None

    def frame(self, tag: str = "") -> bytes:
        return b"" if self.message is None else self.message.frame(tag)


# Reconnection time after a refusal that will not pass by itself.
REFUSED_RETRY_MS = 60_000


def in_short(error: ClientError) -> Mapping[str, Any]:
    """An error without its HTTP status, which only the handlers know."""
    return {"code": error.code, "detail": str(error)}


def call_later(delay: float, callback: Callable[[], None]) -> Timer:
    """Call back after `delay` seconds, by the clock of the event loop."""
    return asyncio.get_running_loop().call_later(delay, callback)


class ResultSets:
    """Keeps a result set for each distinct live subscription while it has clients, and a while longer."""

    def __init__(
        self,
        settings: Settings,
        source: Source,
        history: History,
        clock: Callable[[], float] = time.monotonic,
        call_later: Callable[[float, Callable[[], None]], Timer] = call_later,
        problem_of: Callable[[ClientError], Mapping[str, Any]] = in_short,
    ) -> None:
        self._problem_of = problem_of
        self._call_later = call_later
        self._settings = settings
        self._history = history
        self._clock = clock
        self._open: dict[Subscription, OpenSet] = {}
        self._ahead: dict[OpenSet, None] = {}
        self._inside: Position | None = None
        """The end of the last batch, if that was unfinished."""
        self._index = Index()
        reads = asyncio.Semaphore(settings.snapshot_cursors)
        self.listings = Listings(settings, source, reads)
        """Reads the documents of queries that are not followed."""
        self._surroundings = Surroundings(
            settings, source, history, clock, reads, self.present, self._ahead, self._flush_now
        )

    def __bool__(self) -> bool:
        return bool(self._open)

    def attach(self, callbacks: Callbacks) -> None:
        self._list = callbacks

    def statistics(self) -> LiveStatistics:
        """Count the result sets, their documents and the reads."""
        opened = self._open.values()
        return LiveStatistics(
            result_sets=len(opened),
            documents=sum(each.result_set.count for each in opened),
            reads=sum(each.is_reading for each in opened),
        )

    async def close(self) -> None:
        """Stop all reads."""
        tasks = [task for opened in self._open.values() if (task := opened.close()) is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- clients that are not live yet -------------------------------------------------------------

    def reader(self, subscriber: Subscriber, since: Position | None, fresh: frozenset[str]) -> Reader:
        wanted = subscriber.subscription
        wake, failed = partial(self._list.ready, subscriber), partial(self._list.failed, subscriber)
        if isinstance(wanted, Bundle):
            make = self._set_reader
            return BundleReader(
                subscriber, wanted, since, fresh, make, self._history, self.present, wake, failed
            )
        return self._set_reader(wanted, since, wake, failed)

    def _set_reader(
        self,
        wanted: Subscription,
        since: Position | None,
        wake: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> SetReader:
        core = wanted.core
        opened = self._open.get(core)
        if opened is None:
            opened = self._open[core] = OpenSet(ResultSet(core, self._index), self._surroundings)
            self._index.add(opened.result_set)
        return SetReader(opened, since, wanted.tag, wake, failed)

    def present(self) -> Position | None:
        """The position up to which everything was published: the checkpoint, or the last event if that is
        later.
        """
        checkpoint, head = self._list.checkpoint(), self._history.head
        if self._inside is not None and self._inside.key == head:
            return self._inside
        if checkpoint is None or head <= checkpoint.key:
            return checkpoint
        return resume_token.checkpoint(resume_token.cluster_time(head))

    # -- batches -----------------------------------------------------------------------------------

    def publish(self, batch: Batch, decoded: Sequence[DecodedEvent]) -> Iterator[Update | None]:
        self._note_end(batch)
        if not self._open:
            return
        position = self.end(batch)
        if batch.restarted:
            yield from self._break_all(position)
        if position is None:
            return
        for result_set, events in self._concerned(decoded).items():
            was_known = result_set.known
            message = result_set.take(Arrived(batch.events[0].key, position, events))
            if result_set.waiting:
                self._flush_later(result_set)
            if message is not None or (was_known and not result_set.known):
                yield Update(result_set.subscription, position, message)
            else:
                yield None
        self._wake_reached(position)

    def _concerned(self, decoded: Sequence[DecodedEvent]) -> dict[ResultSet, list[DecodedEvent]]:
        """The events that may concern each result set.

        A set that one change of a document concerns is given all changes of the document. It does not hold
        the document yet, so the index would not find it for the change with which the document leaves again.
        """
        found: dict[tuple[str, bytes], dict[ResultSet, None]] = {}
        touched = []
        for event in decoded:
            document = "", b""
            if isinstance(event, DecodedChange):
                document = event.namespace, key_of(event.document_id)
            touched.append(document)
            found.setdefault(document, {}).update(self._index.find(event, document[1]))
        concerned: dict[ResultSet, list[DecodedEvent]] = {}
        for event, document in zip(decoded, touched, strict=True):
            for result_set in found[document]:
                concerned.setdefault(result_set, []).append(event)
        return concerned

    def end(self, batch: Batch) -> Position | None:
        """The position at the end of a batch: the cluster time of its last event, or its checkpoint if that
        is later.

        If more events of that time may follow, a client that comes back has to begin before all of them.
        """
        if not batch.events:
            return batch.checkpoint
        time = resume_token.cluster_time(batch.events[-1].key)
        if batch.unfinished:
            before = resume_token.checkpoint(resume_token.just_before(time))
            return Position(batch.events[-1].key, before.id, exact=False)
        last = resume_token.checkpoint(time)
        return max(last, batch.checkpoint or last)

    def refusal(self, error: ClientError) -> bytes:
        """The farewell to a client whose result set cannot be served: a status would come too late."""
        of = {"of": error.of} if error.of else {}
        return sse.farewell("problem", json.dumps({**of, **self._problem_of(error)}), REFUSED_RETRY_MS)

    def commit(self, position: Position) -> bytes:
        return frames.commit(position)

    def skip(self, batch: Batch) -> None:
        self._note_end(batch)
        for opened in self._open.values():
            opened.result_set.forget()

    def _note_end(self, batch: Batch) -> None:
        # A batch without events can come between the parts of a transaction.
        if batch.events:
            self._inside = self.end(batch) if batch.unfinished else None

    def _break_all(self, position: Position | None) -> Iterator[Update]:
        for opened in list(self._open.values()):
            was_known = opened.result_set.known
            opened.result_set.forget(ResetReason.HISTORY_LOST)
            if was_known and position is not None:
                yield Update(opened.result_set.subscription, position, None)

    def expire(self) -> None:
        if not self._open:
            return
        due = self._clock() - self._settings.live_linger_seconds
        if (present := self.present()) is not None:
            self._wake_reached(present)
        for subscription, opened in list(self._open.items()):
            opened.expire()
            if not opened.in_use and opened.idle_since <= due:
                del self._open[subscription]
                self._index.remove(opened.result_set, list(opened.result_set.held()))
                opened.close()

    def _wake_reached(self, present: Position) -> None:
        for opened in list(self._ahead):
            opened.wake_reached(present)

    # -- the pace ----------------------------------------------------------------------------------

    def _flush_later(self, result_set: ResultSet) -> None:
        """Send the waiting changes of a set when its pace allows it."""
        opened = self._open[result_set.subscription]
        if opened.flush_timer is None:
            due = result_set.flushed + result_set.subscription.every_ms / 1000
            delay = max(0.0, due - self._clock())
            late = partial(self._list.late, partial(self._flush, opened))
            opened.flush_timer = self._call_later(delay, late)

    def _flush_now(self, opened: OpenSet) -> None:
        self._list.late(partial(self._flush, opened))

    def _flush(self, opened: OpenSet) -> Update | None:
        if opened.flush_timer is not None:
            opened.flush_timer.cancel()
            opened.flush_timer = None
        result_set, position = opened.result_set, self.present()
        if position is None or not result_set.waiting:
            return None
        result_set.flushed = self._clock()
        message = result_set.flush(position)
        if message is None and result_set.known:
            return None
        return Update(result_set.subscription, position, message)
