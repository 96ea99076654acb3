"""MongoDB: the source that follows the configured collections, of one database or of several."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import time as wall_clock
from typing import Any, TypeVar

from pymongo.errors import OperationFailure, PyMongoError

from brook.changes import resume_token
from brook.changes.resume_token import ClusterTime
from brook.errors import HistoryLost, InvalidParameter, OperatorError, UnknownPosition
from brook.event import Batch, Position, Reset, ResetReason
from brook.namespaces import Namespaces
from brook.settings import Settings
from brook.source import Source
from sources.mongo import client, errors
from sources.mongo.tail import Tail

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

BACKOFF_FIRST_SECONDS = 0.1
BACKOFF_MOST_SECONDS = 5.0

EARLIEST = datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=datetime.UTC)

# MongoDB 6.0, the first that keeps documents as they were before a change.
PRE_IMAGES_WIRE_VERSION = 17

# How many changes are read one at a time in search of one that is too large. It may be further on, and
# will then be met again; or it has become smaller since, as the document is looked up anew.
CAREFUL_READS = 10

# A server that hangs must not keep this one from stopping.
CLOSE_SECONDS = 1.0


class MongoSource(Source):
    """One change stream for the process, and a bounded number of others to replay from the log.

    Survives elections, restarts and cut networks from its last token. Only a gap in the log, which
    nobody can fill, becomes a reset.
    """

    def __init__(self, uri: str, settings: Settings) -> None:
        self._settings = settings
        self._client = client.connect(uri)
        self._namespaces = Namespaces.of(settings)
        several = len(self._namespaces.by_database) > 1
        # Several databases need the deployment's stream, and the privilege for it: it is still one cursor.
        self._watched: Any = self._client if several else self._client.get_database(settings.database)
        self._executor = ThreadPoolExecutor(1 + settings.replay_cursors, thread_name_prefix="mongo")
        self._sharded = False
        self._has_before = False
        self._opened: ClusterTime = (0, 0)
        self._live: Tail | None = None

    async def open(self) -> None:
        """Connect, and open the change stream a little in the past. Raises OperatorError."""
        try:
            hello = await self._client.admin.command("hello")
            if hello.get("isreplicaset"):
                raise OperatorError(errors.NOT_INITIATED)
            self._sharded = hello.get("msg") == "isdbgrid"
            self._has_before = hello["maxWireVersion"] >= PRE_IMAGES_WIRE_VERSION
            if "setName" not in hello and not self._sharded:
                raise OperatorError(errors.STANDALONE)
            log.info("connected to the database %s", self._settings.database)
            self._opened = await self._now()
            self._live = await self._open_warm(self._opened)
        except PyMongoError as error:
            raise errors.operator_error(error, self._client, self._namespaces) from error

    async def past(self) -> AsyncIterator[Batch]:
        """From where the stream was opened up to the moment at which it was opened. Where the log has a
        gap, it ends at the present, and has nothing from before: nobody listens yet who would be reset.
        """
        live = self._opened_tail()
        start = resume_token.checkpoint(resume_token.just_before(live.start))
        yield Batch(checkpoint=start, restarted=True)
        end = resume_token.checkpoint(resume_token.just_before(self._opened))
        try:
            async with contextlib.aclosing(self._follow(live)) as batches:
                async for batch in batches:
                    yield batch
                    if batch.checkpoint is not None and batch.checkpoint >= end:
                        break
        except HistoryLost as error:
            log.warning("the log was over before it was read (%s): the memory begins at the present", error)
            # Without this batch, the memory would claim to cover the gap.
            yield Batch(checkpoint=await self._restart(), restarted=True)
        log.info("the change stream started on %s", self._namespaces)

    async def events(self) -> AsyncIterator[Batch]:
        """Every change, for ever. Where the log has a gap, everybody is reset once, and it goes on."""
        while True:
            try:
                async for batch in self._follow(self._opened_tail()):
                    yield batch
            except HistoryLost as error:
                log.error("the change stream cannot go on (%s): every client is reset", error)
            start = await self._restart()
            reset = Reset(ResetReason.HISTORY_LOST, id=start.id, key=start.key)
            yield Batch((reset,), checkpoint=start, restarted=True)

    async def replay(self, after: Position) -> AsyncGenerator[Batch]:
        """The log after a position, from the beginning of its cluster time: so the event that the
        position names comes by, if there is one, and whoever reads this can see that it exists.
        """
        time = resume_token.cluster_time(after.key)
        tail = self._tail(resume_token.start(after))
        now = await self._patiently(tail, self._now)
        # A client's own time is by the clock, and an idle deployment's last operation some seconds old.
        latest = now if after.exact else (max(now[0], int(wall_clock())) + 1, 0)
        if time > latest:
            raise UnknownPosition(f"{after.id[:40]} lies in the future of this deployment")
        # MongoDB itself would begin with what there is, if nothing was cut off the log since it was made.
        if not after.exact and time < await self._patiently(tail, self._beginning):
            raise HistoryLost(f"{after.id[:40]} lies before the beginning of the log")
        try:
            async for batch in self._follow(tail):
                yield batch
        finally:
            await tail.close()

    def position(self, id: str) -> Position:
        """The place that a resume token or a checkpoint names. Raises InvalidId."""
        return resume_token.position(id)

    def position_at(self, time: datetime.datetime) -> Position:
        """The end of the second before: positions in the log count whole seconds."""
        now = datetime.datetime.now(datetime.UTC)
        if not EARLIEST <= time <= now:
            raise InvalidParameter(f"since={time.isoformat()} is not a time between 1970 and now")
        return resume_token.checkpoint(resume_token.just_before((int(time.timestamp()), 0)))

    def age_seconds(self, position: Position) -> float:
        return wall_clock() - resume_token.cluster_time(position.key)[0]

    async def close(self) -> None:
        """Close the cursor and the connections, as far as the server answers."""
        with contextlib.suppress(PyMongoError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                # When the server dies just now, the driver trips over the session that it has given back.
                with contextlib.suppress(PyMongoError, AttributeError):
                    if self._live is not None:
                        await self._live.close()
                # Says goodbye to the server, and would wait for it.
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._executor, self._client.close)
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _follow(self, tail: Tail) -> AsyncGenerator[Batch]:
        """A tail's batches, through everything that will pass. Raises HistoryLost."""
        while True:
            batch = await self._patiently(tail, partial(self._read, tail))
            self._report(tail, None)
            yield batch

    async def _patiently(self, tail: Tail, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer, however often it takes to get one for a tail. Raises HistoryLost."""
        backoff = BACKOFF_FIRST_SECONDS
        while True:
            try:
                return await ask()
            except PyMongoError as error:
                if errors.is_lost(error):
                    raise HistoryLost(errors.one_line(error)) from error
                self._report(tail, errors.one_line(error))
            # Without the jitter, all the processes would ask in the same instant.
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
            backoff = min(2 * backoff, BACKOFF_MOST_SECONDS)

    async def _read(self, tail: Tail) -> Batch:
        """A tail's next batch; in place of a change that is too large, the news of it."""
        try:
            batch = await tail.read()
        except PyMongoError as error:
            await tail.close()
            if errors.code(error) != errors.BSON_OBJECT_TOO_LARGE:
                raise
            if not tail.careful:
                # The large one took down with it those that came in the same reply.
                tail.careful = True
                tail.careful_reads = 0
                return Batch()
            tail.careful = False
            reset = await tail.skip()
            if tail is self._live:
                log.warning("a change of more than 16 MB was skipped: every client is reset")
            return Batch((reset,))
        tail.careful_reads += tail.careful
        if tail.careful and (not batch.events or tail.careful_reads >= CAREFUL_READS):
            tail.careful = False
            await tail.close()
        return batch

    async def _restart(self) -> Position:
        """Begin anew at the present moment, once it can be asked for; the position before it."""
        lost = self._opened_tail()
        await lost.close()
        # Asked for in the name of the live stream: while this fails, no events flow.
        now = await self._patiently(lost, self._now)
        self._live = self._tail(now)
        return resume_token.checkpoint(resume_token.just_before(now))

    async def _open_warm(self, now: ClusterTime) -> Tail:
        """A tail that begins as far in the past as it should, or as the log can."""
        beginning = await self._beginning()
        for part in (1.0, 0.25, 0.0625):
            seconds = int(self._settings.warm_up_seconds * part)
            tail = self._tail(max((now[0] - seconds, now[1]), beginning))
            try:
                await tail.open()
            except PyMongoError as error:
                if errors.code(error) != errors.CHANGE_STREAM_HISTORY_LOST:
                    raise
            else:
                return tail
        tail = self._tail(now)
        await tail.open()
        return tail

    def _tail(self, start: ClusterTime) -> Tail:
        return Tail(
            self._watched, self._namespaces, self._executor, start=start, sharded=self._sharded,
            before=self._has_before,
        )  # fmt: skip

    def _opened_tail(self) -> Tail:
        assert self._live is not None  # open() was called
        return self._live

    async def _now(self) -> ClusterTime:
        reply = await self._client.admin.command("ping")
        time = reply["operationTime"]
        return time.time, time.inc

    async def _beginning(self) -> ClusterTime:
        """The time of the log's first entry, as far as it can be known. If not, only MongoDB can tell that a
        position is lost, when something was cut off after it.
        """
        try:
            log = self._client.local["oplog.rs"]
            first = await log.find_one({}, {"ts": 1}, sort=[("$natural", 1)])
        except OperationFailure:
            return (0, 0)  # not everybody may read it
        # A mongos has none.
        return (first["ts"].time, first["ts"].inc) if first else (0, 0)

    def _report(self, tail: Tail, interruption: str | None) -> None:
        """Say once when the live stream stops, and once when it goes on."""
        if tail is not self._live or (interruption is None) == (self.interruption is None):
            return
        self.interruption = interruption
        if interruption is None:
            log.info("the change stream goes on")
        else:
            log.warning("the change stream is interrupted, trying again: %s", interruption)
