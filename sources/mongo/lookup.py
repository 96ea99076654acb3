"""The documents of updates, read once for each batch, as they were at the batch's last cluster time."""

from __future__ import annotations

import contextlib
import logging
import sys
from bisect import bisect_left
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import bson
from bson import Timestamp
from pymongo.errors import OperationFailure

from brook.changes import resume_token
from brook.changes.change import Change
from brook.changes.resume_token import ClusterTime
from brook.event import Batch, LogEvent
from sources.mongo import errors
from sources.mongo.wire import Connection

log = logging.getLogger(__name__)

# Bounds of one `find`: a command has at most 16 MB, and an `_id` may have a megabyte.
MAX_IDS = 1000
MAX_ID_BYTES = 8 * 1024 * 1024

# Bound on the documents of one lookup, counted once for each update: all updates of a batch are in memory
# together. A transaction alone may have more.
MAX_BYTES = 16 * 1024 * 1024

_GONE = b"\x0afullDocument\0"
_PRESENT = b"\x03fullDocument\0"


@dataclass(frozen=True, slots=True)
class IncompleteUpdate:
    """An update without its document."""

    index: int
    """Its index among the events of its batch."""
    namespace: tuple[str, str]
    """Database and collection."""
    id: Any

    @classmethod
    def of(cls, index: int, change: Any) -> IncompleteUpdate:
        ns = change["ns"]
        return cls(index, (ns["db"], ns["coll"]), change["documentKey"]["_id"])


@dataclass(slots=True)
class _Wanted:
    """A document to look up."""

    id: Any
    updates: int = 0
    """Number of updates that it completes."""


class TooLarge(Exception):
    """The documents have more than MAX_BYTES. The next lookup has to be one of fewer updates."""


class Lookup:
    """Completes updates with one `find` per collection, at one cluster time for all.

    Outside of MongoDB's window for such reads (300 s by default), after a drop, and before MongoDB 5.0, the
    documents are read as they are now, as MongoDB's own `updateLookup` does.
    """

    def __init__(self, *, snapshots: bool) -> None:
        self._snapshots = snapshots
        self.inexact = 0
        """Number of reads that were not at their cluster time."""
        self._mean_bytes = 0.0
        """Size of the documents of the last lookup, for each of its updates."""

    @property
    def fitting(self) -> int:
        """Number of updates for the next lookup: half of MAX_BYTES at the last mean size, because documents
        vary.
        """
        return max(1, int(MAX_BYTES / 2 / self._mean_bytes)) if self._mean_bytes else sys.maxsize

    async def complete(
        self,
        connection: Connection,
        events: Sequence[LogEvent],
        updates: Sequence[IncompleteUpdate],
        time: ClusterTime,
        *,
        bounded: bool,
    ) -> tuple[LogEvent, ...]:
        """Return the events, each update with its document, or null if it is deleted.

        Raises PyMongoError. If `bounded`, raises TooLarge, after which `fitting` is less than these updates.
        """
        keys = [_key(update.id) for update in updates]
        wanted: dict[tuple[str, str], dict[bytes, _Wanted]] = {}
        for update, key in zip(updates, keys, strict=True):
            wanted.setdefault(update.namespace, {}).setdefault(key, _Wanted(update.id)).updates += 1
        found: dict[tuple[str, str], dict[bytes, bytes]] = {}
        size = count = 0
        for namespace, ids in wanted.items():
            documents = found[namespace] = {}
            async with contextlib.aclosing(self._find(connection, namespace, ids, time)) as replies:
                async for reply in replies:
                    for document in reply:
                        key = _key(document["_id"])
                        if key not in ids:
                            continue  # `$in` finds 1.0 for 1, and by a collation "A" for "a"
                        documents[key] = bytes(document.raw)
                        size += len(documents[key]) * ids[key].updates
                        count += ids[key].updates
                    if bounded and size > MAX_BYTES:
                        self._mean_bytes = size / count
                        raise TooLarge
        self._mean_bytes = size / len(updates)
        completed = list(events)
        for update, key in zip(updates, keys, strict=True):
            document = found[update.namespace].get(key)
            completed[update.index] = _with_document(completed[update.index], document)
        return tuple(completed)

    async def _find(
        self, connection: Connection, namespace: tuple[str, str], ids: dict[bytes, _Wanted], time: ClusterTime
    ) -> AsyncGenerator[Sequence[Any]]:
        """The documents with these `_id`s, in parts of at most 16 MB."""
        database, collection = namespace
        for part in _parts(ids):
            find = {"find": collection, "filter": {"_id": {"$in": part}}, "batchSize": MAX_IDS}
            cursor = (await self._first_reply(connection, database, find, time))["cursor"]
            try:
                yield cursor["firstBatch"]
                while cursor["id"]:
                    more = {"getMore": cursor["id"], "collection": collection}
                    cursor = (await connection.request(database, more))["cursor"]
                    yield cursor["nextBatch"]
            finally:
                if cursor["id"] and connection.is_idle:
                    # MongoDB would keep the cursor for ten minutes.
                    await connection.request(database, {"killCursors": collection, "cursors": [cursor["id"]]})

    async def _first_reply(
        self, connection: Connection, database: str, find: dict[str, Any], time: ClusterTime
    ) -> Any:
        if self._snapshots:
            concern = {"level": "snapshot", "atClusterTime": Timestamp(*time)}
            try:
                return await connection.request(database, {**find, "readConcern": concern})
            except OperationFailure as error:
                if error.code not in errors.NO_SNAPSHOT:
                    raise
        self.inexact += 1
        return await connection.request(database, find)


def divide(batch: Batch, count: int) -> tuple[Batch, Batch | None]:
    """Return the part of a batch that has about `count` incomplete updates, and the rest.

    Ends between two cluster times, so that a transaction stays in one batch.
    """
    updates = cast("tuple[IncompleteUpdate, ...]", batch.incomplete)
    events = batch.events
    if len(updates) <= count:
        return batch, None
    end = updates[count].index
    time = _cluster_time(events[end])
    while end and _cluster_time(events[end - 1]) == time:
        end -= 1
    if not end:
        end = next((n for n, event in enumerate(events) if _cluster_time(event) != time), len(events))
    if end == len(events):
        return batch, None
    taken = bisect_left(updates, end, key=lambda update: update.index)
    rest = tuple(replace(update, index=update.index - end) for update in updates[taken:])
    return (
        Batch(events[:end], recipient=batch.recipient, restarted=batch.restarted, incomplete=updates[:taken]),
        replace(batch, events=events[end:], restarted=False, incomplete=rest),
    )


def _cluster_time(event: LogEvent) -> ClusterTime:
    return resume_token.cluster_time(event.key)


def _key(id: Any) -> bytes:
    """The BSON of an `_id`, as a key: 1 and 1.0 are two keys, and NaN equals itself."""
    return bson.encode({"": id})


def _parts(ids: dict[bytes, _Wanted]) -> Iterator[list[Any]]:
    """The `_id`s in lists that fit into one command each."""
    part: list[Any] = []
    size = 0
    for key, wanted in ids.items():
        if part and (len(part) >= MAX_IDS or size + len(key) > MAX_ID_BYTES):
            yield part
            part, size = [], 0
        part.append(wanted.id)
        size += len(key)
    if part:
        yield part


def _with_document(event: LogEvent, document: bytes | None) -> LogEvent:
    """Return an update with its document; with null for None, as MongoDB's `updateLookup` does."""
    assert isinstance(event, Change)
    field = _GONE if document is None else _PRESENT + document
    raw = event.raw[4:-1] + field + b"\0"
    size = (len(raw) + 4).to_bytes(4, "little")
    return Change(event.id, event.operation, size + raw, event.key)
