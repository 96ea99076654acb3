"""MongoDB: the source that follows the configured collections, of one database or of several."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import math
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from time import monotonic
from time import time as wall_clock
from typing import Any, TypeVar

from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS, RawBSONDocument
from pymongo.errors import PyMongoError

from brook.changes import resume_token
from brook.changes.change import Change
from brook.changes.resume_token import ClusterTime
from brook.errors import (
    HistoryLost,
    InvalidParameter,
    NotReady,
    OperatorError,
    SnapshotUnavailable,
    UnknownPosition,
)
from brook.event import Batch, Position, Reset, ResetReason
from brook.namespaces import Namespaces
from brook.settings import Settings
from brook.source import Source
from sources.mongo import client, collections, errors, sharding, snapshot, window
from sources.mongo.connections import Connections
from sources.mongo.tail import Deployment, Tail

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

BACKOFF_FIRST_SECONDS = 0.1
BACKOFF_MAX_SECONDS = 5.0

# Number of errors of the server at one resume token, after which the log is read from its cluster time.
TRIES_AT_ONE_TOKEN = 5

# A log that is lost again within this time is too short for its writes. Each loss resets every client, and
# all of them read their data anew.
REPEATED_SECONDS = 60.0
PAUSE_FIRST_SECONDS = 1.0
PAUSE_MAX_SECONDS = 30.0

EARLIEST = datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=datetime.UTC)

# MongoDB 5.0, the first version that reads at a given cluster time outside of a transaction.
SNAPSHOTS_WIRE_VERSION = 13

# MongoDB 6.0, the first version with pre-images.
PRE_IMAGES_WIRE_VERSION = 17

# The first version with `$changeStreamSplitLargeEvent`.
SPLIT_EVENTS_VERSION = (6, 0, 9)

_AWARE = DEFAULT_RAW_BSON_OPTIONS.with_options(tz_aware=True)

# A MongoDB that hangs must not keep this process from stopping.
CLOSE_SECONDS = 1.0


class MongoSource(Source):
    """One change stream for the process, and a bounded number of others to replay from the log.

    It continues at its last token after elections, restarts and lost networks. Only a gap in the log resets
    the clients.
    """

    has_documents = True

    def __init__(self, uri: str, settings: Settings) -> None:
        self._settings = settings
        self._client = client.connect(uri)
        self._namespaces = Namespaces.of(settings)
        self._executor = ThreadPoolExecutor(1 + settings.replay_cursors, thread_name_prefix="mongo")
        self._deployment = Deployment(self._client, self._executor, self._namespaces)
        self._connections = Connections(self._client, self._executor, settings.snapshot_cursors)
        self._opened: ClusterTime = (0, 0)
        self._live: Tail | None = None
        self._lost: HistoryLost | None = None  # raised in `complete`
        self._window: asyncio.Task[None] | None = None
        self._beginning = partial(window.beginning, self._client)

    async def open(self) -> None:
        """Connect, and open the change stream a little in the past. Raises OperatorError."""
        try:
            hello = await self._client.admin.command("hello")
            if hello.get("isreplicaset"):
                raise OperatorError(errors.NOT_INITIATED)
            if "setName" not in hello and not sharding.is_mongos(hello):
                raise OperatorError(errors.STANDALONE)
            self._deployment = await self._examine(hello)
            log.info("opening the change stream of %s", self._namespaces)
            self._opened = await self._now()
            self._live = await self._open_warm(self._opened)
            await collections.warn(self._client, self._namespaces)
            watching = window.watch(self._beginning, self._tell_window, self._settings.history_seconds)
            self._window = asyncio.create_task(watching, name="window")
        except PyMongoError as error:
            raise errors.operator_error(error, self._client, self._namespaces) from error

    async def past(self) -> AsyncIterator[Batch]:
        """The events from the beginning of the stream up to the moment of its opening.

        After a gap in the log, the history begins at the present instead. No client has to be reset: none is
        let in yet.
        """
        live = self._opened_tail()
        start = resume_token.checkpoint(resume_token.just_before(live.start))
        yield Batch(checkpoint=start, restarted=True)
        end = resume_token.checkpoint(resume_token.just_before(self._opened))
        try:
            async with contextlib.aclosing(self._follow(live)) as batches:
                async for batch in batches:
                    async for part in self._completed(live, batch):
                        yield part
                    if batch.checkpoint is not None and batch.checkpoint >= end:
                        break
        except HistoryLost as error:
            log.warning("the log was cut off before it was read (%s): the history begins now", error)
            # Without this batch, the history would claim to cover the gap.
            yield Batch(checkpoint=await self._restart(), restarted=True)
        log.info("the change stream started on %s", self._namespaces)

    async def complete(self, batch: Batch) -> AsyncIterator[Batch]:
        try:
            async for part in self._completed(self._opened_tail(), batch):
                yield part
        except HistoryLost as error:
            self._lost = error  # `events` resets the clients: the next read might succeed

    async def events(self) -> AsyncIterator[Batch]:
        """Every change, for ever. After a gap in the log, every client is reset once, and the feed goes
        on.
        """
        pause, lost_at = 0.0, -math.inf
        while True:
            try:
                async for batch in self._follow(self._opened_tail()):
                    yield batch
                    if self._lost is not None:
                        raise self._lost
            except HistoryLost as error:
                self._lost = None
                log.error("the log was lost (%(reason)s): every client is reset", {"reason": str(error)})
            self.gaps += 1
            pause, lost_at = pause_after_loss(pause, monotonic() - lost_at), monotonic()
            if pause:
                self._tell(f"MongoDB's log is lost again and again: trying again in {pause:.0f} s")
                await asyncio.sleep(pause)
            start = await self._restart()
            reset = Reset(ResetReason.HISTORY_LOST, id=start.id, key=start.key)
            yield Batch((reset,), checkpoint=start, restarted=True)

    async def replay(self, after: Position) -> AsyncGenerator[Batch]:
        """The log after a position, read from the beginning of the position's cluster time, so that an exact
        position's event is among the first.
        """
        time = resume_token.cluster_time(after.key)
        tail = Tail(self._deployment, start=resume_token.start(after))
        now = await self._retry(tail, self._now)
        # `since` may be a time by a clock, and an idle deployment's last operation is some seconds old.
        latest = now if after.exact else (max(now[0], int(wall_clock())) + 1, 0)
        if time > latest:
            raise UnknownPosition(f"{after.id[:40]} lies in the future of this deployment")
        # MongoDB itself accepts a time before the log's first entry, if nothing was ever cut off the log.
        if not after.exact and time < await self._retry(tail, self._beginning):
            raise HistoryLost(f"{after.id[:40]} lies before the beginning of the log")
        try:
            async for batch in self._follow(tail):
                async for part in self._completed(tail, batch):
                    yield part
        finally:
            await tail.close()

    async def collections(self, database: str) -> Sequence[str]:
        try:
            return await client.in_time(collections.names(self._client, database))
        except PyMongoError as error:
            log.warning("the collections cannot be read: %s", errors.one_line(error))
            raise NotReady("the collections cannot be read now; the server's log says why") from error

    async def now(self) -> Position:
        try:
            return resume_token.checkpoint(await client.in_time(self._now()))
        except PyMongoError as error:
            raise SnapshotUnavailable(errors.one_line(error)) from error

    async def snapshot(
        self, namespace: str, query: bytes, at: Position, *, sort: bytes = b"", limit: int = 0
    ) -> AsyncGenerator[Sequence[bytes]]:
        read = snapshot.Read(namespace, query, resume_token.cluster_time(at.key), sort, limit)
        if not self._deployment.snapshots:
            # Not SnapshotUnavailable, with which the client would wait and come back for ever.
            raise InvalidParameter("live queries need MongoDB 5.0 or later, and this one is older")
        async with contextlib.aclosing(snapshot.documents(self._connections, read)) as parts:
            async for part in parts:
                yield part

    def position(self, id: str) -> Position:
        """The position of an event's id, of a checkpoint or of a resume token. Raises InvalidId."""
        return resume_token.position(id)

    def position_at(self, time: datetime.datetime) -> Position:
        """The end of the second before a time: cluster times count whole seconds. Raises InvalidParameter."""
        now = datetime.datetime.now(datetime.UTC)
        if not EARLIEST <= time <= now:
            raise InvalidParameter(f"since={time.isoformat()} is not a time between 1970 and now")
        return resume_token.checkpoint(resume_token.just_before((int(time.timestamp()), 0)))

    def age_seconds(self, position: Position) -> float:
        return wall_clock() - resume_token.cluster_time(position.key)[0]

    def lag_seconds(self, batch: Batch) -> float | None:
        """Known with MongoDB 6.0 or later, which notes the time of a change in milliseconds."""
        last = batch.events[-1]
        if not isinstance(last, Change):
            return None
        at = RawBSONDocument(last.raw, _AWARE).get("wallTime")
        return wall_clock() - at.timestamp() if isinstance(at, datetime.datetime) else None

    async def close(self) -> None:
        """Close the cursor and the connections, as far as the server answers."""
        if self._window is not None:
            self._window.cancel()
            await asyncio.gather(self._window, return_exceptions=True)
        self._connections.close()
        with contextlib.suppress(PyMongoError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                # If MongoDB dies at this moment, the driver raises AttributeError for a session that it has
                # given back.
                with contextlib.suppress(PyMongoError, AttributeError):
                    if self._live is not None:
                        await self._live.close()
                # In a thread: it ends the driver's sessions on the server, and waits for that.
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._executor, self._client.close)
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _follow(self, tail: Tail) -> AsyncGenerator[Batch]:
        """The batches of a tail, for ever. Retries after every error that passes. Raises HistoryLost."""
        while True:
            batch = await self._retry(tail, partial(self._read, tail))
            self._report(tail, None)
            yield batch

    async def _retry(self, tail: Tail, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Call `ask` until it does not raise PyMongoError. Raises HistoryLost if the tail cannot continue."""
        backoff, tries = BACKOFF_FIRST_SECONDS, 0
        while True:
            try:
                return await ask()
            except PyMongoError as error:
                # An error of the server may be due to the resume token; a network error is not.
                tries += errors.code(error) is not None
                fatal = errors.code(error) == errors.CHANGE_STREAM_FATAL
                if errors.is_lost(error) and (tail.rewound or not fatal):
                    raise HistoryLost(errors.one_line(error)) from error
                self._report(tail, errors.one_line(error))
                if fatal or tries >= TRIES_AT_ONE_TOKEN:
                    tries = 0
                    log.warning(
                        "going back to the cluster time of the last change: %s", errors.one_line(error)
                    )
                    tail.rewind()
            # Without the jitter, all processes would ask at the same moment.
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
            backoff = min(2 * backoff, BACKOFF_MAX_SECONDS)

    async def _read(self, tail: Tail) -> Batch:
        """A tail's next batch. Raises PyMongoError."""
        skipped = tail.skipped
        try:
            batch = await tail.read()
        except PyMongoError:
            await tail.close()
            raise
        if tail.skipped > skipped and tail is self._live:
            log.warning("a change of more than 16 MB was skipped: every client is reset")
        return batch

    async def _completed(self, tail: Tail, batch: Batch) -> AsyncIterator[Batch]:
        """The batch with its documents, in parts if they are large. Raises HistoryLost."""
        rest: Batch | None = batch
        while rest is not None:
            part, rest = await self._retry(tail, partial(self._complete, tail, rest))
            yield part

    async def _complete(self, tail: Tail, batch: Batch) -> tuple[Batch, Batch | None]:
        try:
            return await tail.complete(batch)
        except PyMongoError:
            await tail.close()
            raise

    async def _restart(self) -> Position:
        """Begin a new live stream at the present. Returns the position just before it."""
        lost = self._opened_tail()
        await lost.close()
        # Passing the live tail reports a failure for `/readyz`: while this fails, no events flow.
        now = await self._retry(lost, self._now)
        self._live = self._live_tail(now)
        return resume_token.checkpoint(resume_token.just_before(now))

    async def _open_warm(self, now: ClusterTime) -> Tail:
        """Open a tail that begins `warm_up_seconds` in the past, or a part of that if the log is shorter."""
        beginning = await self._beginning()
        for part in (1.0, 0.25, 0.0625):
            seconds = int(self._settings.warm_up_seconds * part)
            # Not at the last operation itself: the checkpoint would reach it with the next one only, which
            # in a quiet MongoDB is a note after ten seconds.
            start = resume_token.just_before((now[0] - seconds, now[1]))
            tail = self._live_tail(max(start, beginning))
            try:
                # Only a read shows if the log reaches back so far.
                await tail.fetch()
            except PyMongoError as error:
                await tail.close()
                if errors.code(error) != errors.CHANGE_STREAM_HISTORY_LOST:
                    raise
            else:
                return tail
        tail = self._live_tail(now)
        await tail.fetch()
        return tail

    def _live_tail(self, start: ClusterTime) -> Tail:
        return Tail(self._deployment, start=start, late=self._tell)

    async def _examine(self, hello: Mapping[str, Any]) -> Deployment:
        """Return the deployment, with the features that its version has."""
        version = (await self._client.admin.command("buildInfo"))["versionArray"]
        wire_version = hello["maxWireVersion"]
        return replace(
            self._deployment,
            sharded=sharding.is_mongos(hello),
            pre_images=wire_version >= PRE_IMAGES_WIRE_VERSION,
            snapshots=wire_version >= SNAPSHOTS_WIRE_VERSION,
            split_events=tuple(version[:3]) >= SPLIT_EVENTS_VERSION,
        )

    def _opened_tail(self) -> Tail:
        assert self._live is not None  # open() was called
        return self._live

    async def _now(self) -> ClusterTime:
        reply = await self._client.admin.command("ping")
        time = reply["operationTime"]
        return time.time, time.inc

    def _tell_window(self, seconds: float, became_short: bool) -> None:
        self.log_window_seconds = seconds
        self.log_window_shortages += became_short

    def _report(self, tail: Tail, interruption: str | None) -> None:
        if tail is self._live:
            self._tell(interruption)

    def _tell(self, interruption: str | None) -> None:
        """Keep the reason why no events flow for `/readyz`; log it when its kind changes."""
        if interruption == self.interruption:
            return
        before, self.interruption = self.interruption, interruption
        if interruption is None:
            log.info("the change stream goes on")
        elif before is None:
            self.interruptions += 1
            text = "the change stream is interrupted, trying again: %(reason)s"
            log.warning(text, {"reason": interruption})
        elif _kind(before) != _kind(interruption):
            log.warning("the change stream is still interrupted: %(reason)s", {"reason": interruption})


def pause_after_loss(pause: float, seconds: float) -> float:
    """Return the seconds to wait after a loss of the log. The loss before it was `seconds` ago, and was
    followed by a wait of `pause` seconds.
    """
    if seconds > REPEATED_SECONDS:
        return 0.0
    return min(max(PAUSE_FIRST_SECONDS, 2 * pause), PAUSE_MAX_SECONDS)


def _kind(interruption: str) -> str:
    """The error's class. The text may contain a time or a count, and would be logged again for each."""
    return interruption.partition(":")[0]
