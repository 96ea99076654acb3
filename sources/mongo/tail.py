"""One change stream and its position in the log, read in batches of the changes that arrived together."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, cast

from bson import Timestamp
from pymongo.errors import PyMongoError

from brook.changes import resume_token
from brook.changes.change import Change
from brook.changes.resume_token import ClusterTime
from brook.event import Batch, LogEvent, Position, Reset, ResetReason
from brook.namespaces import Namespaces
from sources.mongo import errors
from sources.mongo.cursor import AWAIT_MS, Cursor, Patience
from sources.mongo.entry import Entry
from sources.mongo.fragments import Fragments
from sources.mongo.lookup import IncompleteUpdate, Lookup, TooLarge, divide
from sources.mongo.pipeline import SLIM, pipeline

# A batch is published in one turn of the event loop, so it ends at this number of changes, or with the change
# that reaches this size. It is cut between two cluster times only, so that the changes of a transaction,
# which share theirs, stay together as far as they came in one reply of MongoDB. (Since MongoDB 8.0, equal
# times alone no longer mean one transaction: `lsid` and `txnNumber` do.)
BATCH_CHANGES = 1000
BATCH_BYTES = 1024 * 1024

# A reply ends before the change with which it would have more than 16 MB. One smaller than this ends so only
# before a change of more than 15 MB.
FULL_REPLY_BYTES = 1024 * 1024

# To find a change that is too large, a reply is limited at first to this number of changes, and this number
# of replies is limited. If the change comes later, its error starts the search again.
LIMITED_CHANGES = 256
LIMITED_READS = 10

_CHANGES = frozenset({"insert", "update", "replace", "delete"})
_RESETS = {
    "drop": ResetReason.COLLECTION_DROPPED,
    "rename": ResetReason.COLLECTION_RENAMED,
    "dropDatabase": ResetReason.DATABASE_DROPPED,
}


@dataclass(frozen=True, slots=True)
class Deployment:
    """The MongoDB that a tail reads, and its features."""

    client: Any
    executor: Executor
    namespaces: Namespaces
    sharded: bool = False
    pre_images: bool = False
    """It has pre-images (6.0). An older server refuses a change stream that asks for them."""
    split_events: bool = False
    """It splits changes of more than 16 MB (6.0.9)."""
    snapshots: bool = False
    """It reads at a given cluster time (5.0)."""

    @property
    def database(self) -> str:
        """The database to watch; "admin" to watch the deployment, with one cursor for several databases."""
        return self.namespaces.default if self.has_exact_match else "admin"

    @property
    def has_exact_match(self) -> bool:
        """True if the pipeline admits only the named collections, see `pipeline.match`."""
        return len(self.namespaces.by_database) == 1

    def stages(self, start: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The pipeline of a change stream. `start` has `startAtOperationTime` or `startAfter`."""
        stream = dict(start)
        if self.database == "admin":
            stream["allChangesForCluster"] = True
        if self.pre_images:
            stream["fullDocumentBeforeChange"] = "whenAvailable"
        if self.sharded:
            # A lookup by `_id` alone could find another shard's document.
            stream["fullDocument"] = "updateLookup"
        return pipeline(self.namespaces, stream, split=self.split_events)


class Tail:
    """A change stream and its position. A failed read does not move it: `close`, and read again."""

    def __init__(
        self, deployment: Deployment, *, start: ClusterTime, late: Callable[[str], None] | None = None
    ) -> None:
        self._deployment = deployment
        self._late = late or _ignore
        self._lookup = Lookup(snapshots=deployment.snapshots)
        self._next: dict[str, Any] = {"startAtOperationTime": Timestamp(*start)}
        """The options of a change stream that begins with the next event."""
        self._last_event = ""
        """The token of the last event."""
        self._time = ""
        """The cluster time of the last event, as its token has it."""
        self._index = 0
        """The index of the last event among the events of its cluster time."""
        self._seen = ""
        """Events up to this token were yielded before `rewind`, and are dropped."""
        self.rewound = False
        """`rewind` was called since the last read that succeeded."""
        self._returned: ClusterTime = start
        """The time of the last event, or that at which the cursor was opened. More of it may follow."""
        self._promised: Position | None = None
        """The last checkpoint."""
        self._patience = Patience()
        self._cursor: Cursor | None = None
        self._unread: deque[Any] = deque()
        """Changes of the last reply that belong to later batches."""
        self._fetched = False
        """True while `read` has not used all of the last reply."""
        self._cut_off = False
        """The last reply may have ended at its limit, while MongoDB had more."""
        self._fragments = Fragments()
        self._end: Any = None
        """The token after the last reply."""
        self._alive = True
        self.start = start
        """The cluster time from which the tail reads."""
        self.skipped = 0
        """Number of changes that were too large to be read."""
        self._limit: int | None = None
        """Maximum number of changes in a reply, while a change that is too large is looked for."""
        self._limited_reads = 0

    async def open(self) -> None:
        """Open the cursor. Raises PyMongoError."""
        self._cursor = Cursor(self._deployment.client, self._deployment.executor, self._late, self._patience)
        token = await self._cursor.open(self._deployment.database, self._deployment.stages(self._next))
        if token is not None:
            self._returned = max(self._returned, resume_token.token_time(token["_data"]))

    async def fetch(self, await_ms: int = AWAIT_MS) -> None:
        """Get MongoDB's next reply, from which `read` takes its batches. Raises PyMongoError."""
        if self._cursor is None:
            await self.open()
        assert self._cursor is not None
        reply = await self._cursor.read(self._limit, await_ms)
        size = sum(len(change.raw) for change in reply.changes)
        self._cut_off = self._limit is not None or size >= FULL_REPLY_BYTES
        self._limited_reads += 1
        if not reply.changes or self._limited_reads >= LIMITED_READS:
            self._limit = None
        self._unread.extend(reply.changes)
        self._end, self._alive = reply.token, reply.alive
        self._fetched = True

    async def read(self) -> Batch:
        """Return the next batch, which is empty after AWAIT_MS without a change. Raises PyMongoError.

        In place of a change that is too large, the batch has a reset.
        """
        if not self._fetched:
            try:
                await self.fetch()
            except PyMongoError as error:
                if errors.code(error) != errors.BSON_OBJECT_TOO_LARGE:
                    raise
                await self.close()
                return await self._narrow()
        batch = self._cut()
        self.rewound = False
        if batch.unfinished:
            batch = await self._look_ahead(batch)
        self._fetched = bool(self._unread)
        # A dropped database ends the stream with an "invalidate". The next read opens a new one after that.
        if not self._alive and not self._unread:
            await self.close()
        return batch

    async def complete(self, batch: Batch) -> tuple[Batch, Batch | None]:
        """Return a batch with the documents of its updates, at its last cluster time. Raises PyMongoError.

        If the documents have too many bytes for one batch, return the first part of it, and the rest, which
        is still incomplete.
        """
        if not batch.incomplete:
            return batch, None
        if self._cursor is None or self._cursor.connection is None:
            await self.open()
        assert self._cursor is not None
        assert self._cursor.connection is not None
        while True:
            first, rest = divide(batch, self._lookup.fitting)
            if not first.incomplete:
                return first, rest
            time = resume_token.cluster_time(first.events[-1].key)
            updates = cast("tuple[IncompleteUpdate, ...]", first.incomplete)
            bounded = len(updates) > 1 and resume_token.cluster_time(first.events[0].key) != time
            with contextlib.suppress(TooLarge):
                events = await self._lookup.complete(
                    self._cursor.connection, first.events, updates, time, bounded=bounded
                )
                return replace(first, events=events, incomplete=()), rest

    async def _narrow(self) -> Batch:
        """Ask for smaller replies, until the change that is too large is alone in one, and skip it.

        MongoDB refuses a whole reply for one such change.
        """
        if self._limit == 1:
            self._limit = None
            return Batch((await self._skip(),), unfinished=True)
        self._limit = max(1, self._limit // 4) if self._limit else LIMITED_CHANGES
        self._limited_reads = 0
        return Batch()

    async def _skip(self) -> Reset:
        """Skip the next change, which is too large to be read. Returns its reset. Raises PyMongoError."""
        deployment = self._deployment
        cursor = Cursor(deployment.client, deployment.executor, self._late)
        try:
            await cursor.open(deployment.database, [*deployment.stages(self._next), SLIM])
            while not (changes := (await cursor.read(1)).changes):
                pass
        finally:
            await cursor.close()
        change: Any = changes[0]
        token = change["_id"]["_data"]
        self._next = {"startAfter": change["_id"]}
        self._last_event = token
        self.skipped += 1
        key = self._key(token)
        # The id is the position before the change: a replay cannot read the change, and so not find its id.
        before = resume_token.checkpoint(resume_token.just_before(resume_token.cluster_time(key)))
        return Reset(
            ResetReason.OVERSIZED_EVENT, id=before.id, key=key, ns=_named(change, deployment.namespaces)
        )

    def rewind(self) -> None:
        """Go back to the cluster time of the current resume token, to read on without the token.

        For reads that fail again and again at the same token. No event is missed, and the events that were
        already yielded are dropped.
        """
        token = self._next.get("startAfter")
        if token is not None:
            time = resume_token.token_time(token["_data"])
            self._next = {"startAtOperationTime": Timestamp(*time)}
            self._seen = self._last_event
            self._time = ""
        self.rewound = True

    async def close(self) -> None:
        """Close the cursor. `read` opens a new one at the same position."""
        cursor, self._cursor = self._cursor, None
        self._unread.clear()
        self._fetched = False
        self._fragments = Fragments()
        if cursor is not None:
            await cursor.close()

    def _cut(self) -> Batch:
        """The next batch of the last reply."""
        events: list[LogEvent] = []
        size = 0
        last: Entry | None = None
        incomplete: list[IncompleteUpdate] = []
        while self._unread:
            full = len(events) >= BATCH_CHANGES or size >= BATCH_BYTES
            if full and _time_of(_entry(self._unread[0]).token) != self._time:
                break
            entry: Entry | None = _entry(self._unread.popleft())
            if entry is not None and entry.is_fragment:
                entry = self._fragments.add(entry)
            if entry is None:
                continue
            last = entry
            event = self._event(entry)
            if event is not None:
                if self._is_incomplete(entry):
                    incomplete.append(IncompleteUpdate.of(len(events), entry.document))
                events.append(event)
                size += event.size
        token = last.resume_token if last is not None else None
        if not self._unread and not self._fragments.pending:
            token = self._end
        checkpoint = self._checkpoint(token["_data"] if token else "", last.token if last else "")
        if token:
            self._next = {"startAfter": token}
        if last is not None:
            self._last_event = max(last.token, self._last_event)
        unfinished = bool(events) and self._is_unfinished(events[-1], checkpoint, last)
        return Batch(tuple(events), checkpoint, incomplete=tuple(incomplete), unfinished=unfinished)

    async def _look_ahead(self, batch: Batch) -> Batch:
        """See from the next reply if a batch is unfinished. More of the same time would be there at once."""
        try:
            await self.fetch(await_ms=1)
        except PyMongoError:
            await self.close()  # the next read meets the error
            return batch
        following = self._time if self._fragments.pending else ""
        if self._unread:
            following = _time_of(_entry(self._unread[0]).token)
        return replace(batch, unfinished=following == self._time)

    def _is_unfinished(self, event: LogEvent, checkpoint: Position | None, last: Entry | None) -> bool:
        """True if more events of the last event's cluster time may come with the next reply."""
        if self._unread or (checkpoint is not None and checkpoint.key > event.key):
            return False
        # Another shard may have more of a transaction.
        more = self._cut_off or bool(self._fragments.pending) or self._deployment.sharded
        if not more or last is None:
            return False
        if resume_token.token_time(last.token) != resume_token.cluster_time(event.key):
            return False
        return "txnNumber" in last.document or self._index > 0

    def _event(self, entry: Entry) -> LogEvent | None:
        """The event of an entry; None if it concerns no client, or was yielded before `rewind`."""
        token, operation = entry.token, entry.operation
        key = self._key(token)
        if token <= self._seen:
            return None
        if operation in _CHANGES and self._is_named(entry):
            return Change(resume_token.event_id(token), operation, entry.raw, key)
        if operation in _RESETS and (named := _named(entry.document, self._deployment.namespaces)):
            return Reset(_RESETS[operation], id=resume_token.event_id(token), key=key, ns=named)
        return None

    def _is_named(self, entry: Entry) -> bool:
        """False for a collection that the operator did not name: with several databases, the pipeline admits
        some of them.
        """
        if self._deployment.has_exact_match:
            return True
        ns = entry.document["ns"]
        return self._deployment.namespaces.hold(ns["db"], ns["coll"])

    def _is_incomplete(self, entry: Entry) -> bool:
        return entry.operation == "update" and not self._deployment.sharded

    def _key(self, token: str) -> str:
        """The key of the next event: it counts the events of one cluster time."""
        time = _time_of(token)
        self._index = self._index + 1 if time == self._time else 0
        self._time = time
        return resume_token.event_key(token, self._index)

    def _checkpoint(self, token: str, last: str) -> Position | None:
        """The time up to which everything has been read, as the server's token has it; never an earlier one
        than before. `last` is the token of the batch's last event; empty if it has none.
        """
        if last:
            self._returned = max(self._returned, resume_token.token_time(last))
        if token:
            checkpoint = resume_token.checkpoint(self._complete_time(token, has_events=bool(last)))
            self._promised = max(checkpoint, self._promised or checkpoint)
        return self._promised if token else None

    def _complete_time(self, token: str, *, has_events: bool) -> ClusterTime:
        """The last time of which nothing is outstanding.

        The token of an event promises that only for the time before it, because more changes may share its
        time; unless MongoDB had nothing more to send. A later token is a high-water mark: MongoDB has read
        its log up to an entry of that time, and had nothing more to send. In a sharded cluster, another shard
        may have.
        """
        time = resume_token.token_time(token)
        had_no_more = time > self._returned or (not has_events and token == self._last_event)
        return time if had_no_more and not self._deployment.sharded else resume_token.just_before(time)


def _ignore(_: str) -> None:
    """Report nothing: a late reply of a replay concerns its own clients only, and they wait for it."""


def _entry(document: Any) -> Entry:
    # For a large document, `raw` is a view of the reply, which would keep all of the reply in memory.
    return Entry(bytes(document.raw))


def _time_of(token: str) -> str:
    """The part of a token that contains the cluster time."""
    return token[:18]


def _named(change: Mapping[str, Any], namespaces: Namespaces) -> Sequence[str]:
    """The collections of a change (of a rename both names), or its database, if the operator named them."""
    found = [change["ns"], *([change["to"]] if "to" in change else [])]
    return [
        f"{ns['db']}.{ns['coll']}" if "coll" in ns else str(ns["db"])
        for ns in found
        if namespaces.hold(ns["db"], ns.get("coll"))
    ]
