"""One change stream cursor, read in batches: what has arrived travels together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from bson import Timestamp
from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorDatabase

from brook.changes import resume_token
from brook.changes.change import Change
from brook.changes.resume_token import ClusterTime
from brook.event import Batch, LogEvent, Position, Reset, ResetReason
from brook.namespaces import ALL, Namespaces

# How long the server holds a getMore that finds nothing: also how long an idle client's checkpoint
# may be out of date, and how long stopping may have to wait for a thread.
AWAIT_MS = 1000

# A batch is published in one turn of the event loop, so it ends at so many changes, or with the one that
# makes it as large as this. But the end of a transaction goes with it, as far as it came in the same reply of
# MongoDB: that has 16 MiB at most, so a larger transaction is more than one batch.
BATCH_CHANGES = 1000
BATCH_BYTES = 1024 * 1024

# As many changes as fit into a reply. By itself, MongoDB gives 101 at first, and may cut a transaction there.
REPLY_CHANGES = 2**31 - 1

_CHANGES = frozenset({"insert", "update", "replace", "delete"})
_RESETS = {
    "drop": ResetReason.COLLECTION_DROPPED,
    "rename": ResetReason.COLLECTION_RENAMED,
    "dropDatabase": ResetReason.DATABASE_DROPPED,
}

# All that is needed to get past a change that is too large to be sent.
_SLIM = {"$project": {"_id": 1, "operationType": 1, "ns": 1, "to": 1}}

Watched = AsyncIOMotorDatabase[RawBSONDocument] | AsyncIOMotorClient[RawBSONDocument]
Pipeline = Sequence[Mapping[str, Any]]


def pipeline(namespaces: Namespaces) -> Pipeline:
    """The operator's list, and what drops, renames and dropDatabase need. Never a client's filter:
    it would keep back the very event that a client's resume token names.
    """
    wanted: list[dict[str, Any]] = []
    for database, collections in namespaces.by_database.items():
        if ALL in collections:
            wanted += [{"ns.db": database}, {"to.db": database}]
        else:
            names = {"$in": sorted(collections)}
            wanted += [{"ns.db": database, "ns.coll": names}, {"to.db": database, "to.coll": names}]
            wanted.append({"operationType": "dropDatabase", "ns.db": database})
    # The stream of a dropped database ends with this; it has no namespace.
    return [{"$match": {"$or": [*wanted, {"operationType": "invalidate"}]}}]


class Tail:
    """A change stream and where it is. A read that fails moves nothing: close, and read again."""

    def __init__(
        self,
        watched: Watched,
        namespaces: Namespaces,
        executor: Executor,
        *,
        start: ClusterTime,
        sharded: bool,
        before: bool,
    ) -> None:
        self._watched = watched
        self._namespaces = namespaces
        self._pipeline = pipeline(namespaces)
        self._executor = executor
        self._sharded = sharded
        # Asked of a server before 6.0, even "whenAvailable" is an error.
        self._before: dict[str, Any] = {"full_document_before_change": "whenAvailable"} if before else {}
        self._where: dict[str, Any] = {"start_at_operation_time": Timestamp(*start)}
        self._last_event = ""
        self._seen = ""
        """Events up to this token were yielded before `rewind`, and are dropped."""
        self.rewound = False
        """`rewind` was called since the last read that succeeded."""
        self._stream: Any = None
        self._held: RawBSONDocument | None = None
        """Read, but not yielded yet; a read from `_where` would bring it again."""
        self.start = start
        """The cluster time of the first event that it can yield."""
        self.careful_reads = 0
        self.careful = False
        """Read one change at a time: to find the one that is too large."""

    async def open(self) -> None:
        """Open the cursor. Raises PyMongoError."""
        stream: Any = self._watched.watch(
            self._pipeline,
            full_document="updateLookup",
            **self._before,
            max_await_time_ms=AWAIT_MS,
            batch_size=1 if self.careful else REPLY_CHANGES,
            **self._where,
        )
        # Entering the context is what sends the command.
        self._stream = await stream.__aenter__()

    async def read(self) -> Batch:
        """What has arrived, or after AWAIT_MS an empty batch. Raises PyMongoError."""
        if self._stream is None:
            await self.open()
        loop = asyncio.get_running_loop()
        most = 1 if self.careful else BATCH_CHANGES
        held, self._held = self._held, None
        drained = await loop.run_in_executor(
            self._executor, _drain, self._stream.delegate, self._namespaces, most, held, self._seen
        )
        events, last_event, resume, alive, self._held = drained
        token: str = resume["_data"] if resume else ""
        checkpoint = self._checkpoint(token, last_event)
        if resume:
            # The whole token: without its type bits MongoDB cannot find an event whose `_id` is 1.5.
            self._where = {"start_after": resume}
        self._last_event = max(last_event, self._last_event)
        self.rewound = False
        # A dropped database ends the stream, which goes on after its "invalidate". And only the first
        # batch of a cursor can be a single change: the driver asks for two at least after that.
        if not alive or self.careful:
            await self.close()
        return Batch(tuple(events), checkpoint)

    async def skip(self) -> Reset:
        """Get past the next change, which is too large to be read, and tell of it."""
        await self.close()
        async with self._watched.watch([*self._pipeline, _SLIM], batch_size=1, **self._where) as stream:
            change: Any = await stream.next()
        token = change["_id"]["_data"]
        self._where = {"start_after": change["_id"]}
        self._last_event = token
        # The position before it, not its own: a token holds its document's _id, which not everybody
        # who hears of this may know.
        before = resume_token.checkpoint(resume_token.just_before(resume_token.cluster_time(token)))
        return Reset(
            ResetReason.OVERSIZED_EVENT, id=before.id, key=token, ns=_named(change, self._namespaces)
        )

    def rewind(self) -> None:
        """Go back to the cluster time of the current place, which needs no resume token.

        Use it when reads fail in the same place: nothing can be missing, and events that were yielded
        already are dropped.
        """
        token = self._where.get("start_after")
        if token is not None:
            time = resume_token.cluster_time(token["_data"])
            self._where = {"start_at_operation_time": Timestamp(*time)}
            self._seen = self._last_event
        self.rewound = True

    async def close(self) -> None:
        """Give the cursor back; `read` opens a new one at the same place."""
        stream, self._stream = self._stream, None
        self._held = None
        if stream is not None:
            await stream.close()

    def _checkpoint(self, token: str, last_event: str) -> Position | None:
        """Up to when everything has been read, as far as the server's token tells.

        A token that is no event's is a high-water mark: nothing before its time is outstanding. An
        event's own says that only of the time before it, since a transaction's changes share one
        time; unless the server had nothing more to give, and no second shard could have.
        """
        if not token:
            return None
        time = resume_token.cluster_time(token)
        if not last_event and token == self._last_event and not self._sharded:
            return resume_token.checkpoint(time)
        return resume_token.checkpoint(resume_token.just_before(time))


def _drain(
    stream: Any, namespaces: Namespaces, most: int, change: RawBSONDocument | None, seen: str
) -> tuple[list[LogEvent], str, RawBSONDocument | None, bool, RawBSONDocument | None]:
    """Take what the driver has buffered, after at most one getMore. Runs in a thread.

    Returns the events after the token `seen`, the last change's token, the whole token to go on after, False
    if the stream has ended, and a change that belongs to the next batch.

    It must stop at what is buffered: `try_next` on a drained cursor waits for the server, and what
    was read already would wait with it. Beyond the bounds it goes on to the end of a transaction,
    whose changes share a cluster time: clients should not see half of one, where it came whole.
    """
    events: list[LogEvent] = []
    last = ""
    place: RawBSONDocument | None = None
    size = 0
    if change is None:
        change = stream.try_next()
    while change is not None:
        token: str = change["_id"]["_data"]
        full = len(events) >= most or size >= BATCH_BYTES
        if full and not resume_token.same_time(token, last):
            return events, last, place, True, change
        last = token
        place = change["_id"]
        event = _event(change, token, namespaces) if token > seen else None
        if event is not None:
            events.append(event)
            size += event.size
        if not stream._cursor._has_next():
            break
        change = stream.try_next()
    return events, last, stream.resume_token, stream.alive, None


def _event(change: RawBSONDocument, token: str, namespaces: Namespaces) -> LogEvent | None:
    operation = change["operationType"]
    if operation in _CHANGES:
        return Change(token, operation, bytes(change.raw))
    if operation in _RESETS:
        return Reset(_RESETS[operation], id=token, ns=_named(change, namespaces))
    return None


def _named(change: Mapping[str, Any], namespaces: Namespaces) -> list[str]:
    """What a change is about: of a rename both names, but only those that the operator named."""
    places = [change["ns"], *([change["to"]] if "to" in change else [])]
    return [
        f"{place['db']}.{place['coll']}" if "coll" in place else str(place["db"])
        for place in places
        if namespaces.hold(place["db"], place.get("coll"))
    ]
