"""The documents of updates, read once for each batch, as they were at the batch's last cluster time."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import bson
from bson import Timestamp
from pymongo.errors import OperationFailure

from brook.changes.change import Change
from brook.changes.resume_token import ClusterTime
from brook.event import LogEvent
from sources.mongo import errors
from sources.mongo.wire import Connection

log = logging.getLogger(__name__)

# Bounds of one `find`: a command has at most 16 MB, and an `_id` may have a megabyte.
MAX_IDS = 1000
MAX_ID_BYTES = 8 * 1024 * 1024

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


class Lookup:
    """Completes updates with one `find` per collection, at one cluster time for all.

    Outside of MongoDB's window for such reads (300 s by default), after a drop, and before MongoDB 5.0, the
    documents are read as they are now, as MongoDB's own `updateLookup` does.
    """

    def __init__(self, *, snapshots: bool) -> None:
        self._snapshots = snapshots
        self.inexact = 0
        """Number of reads that were not at their cluster time."""

    async def complete(
        self,
        connection: Connection,
        events: Sequence[LogEvent],
        updates: Sequence[IncompleteUpdate],
        time: ClusterTime,
    ) -> tuple[LogEvent, ...]:
        """Return the events, each update with its document, or null if it is deleted. Raises PyMongoError."""
        keys = [_key(update.id) for update in updates]
        wanted: dict[tuple[str, str], dict[bytes, Any]] = {}
        for update, key in zip(updates, keys, strict=True):
            wanted.setdefault(update.namespace, {})[key] = update.id
        found = {ns: await self._find(connection, ns, ids, time) for ns, ids in wanted.items()}
        completed = list(events)
        for update, key in zip(updates, keys, strict=True):
            document = found[update.namespace].get(key)
            completed[update.index] = _with_document(completed[update.index], document)
        return tuple(completed)

    async def _find(
        self, connection: Connection, namespace: tuple[str, str], ids: dict[bytes, Any], time: ClusterTime
    ) -> dict[bytes, bytes]:
        """The documents with these `_id`s, by their keys."""
        found: dict[bytes, bytes] = {}
        for part in _parts(ids):
            async for document in self._documents(connection, namespace, part, time):
                found[_key(document["_id"])] = bytes(document.raw)
        return found

    async def _documents(
        self, connection: Connection, namespace: tuple[str, str], ids: Sequence[Any], time: ClusterTime
    ) -> AsyncIterator[Any]:
        database, collection = namespace
        find = {"find": collection, "filter": {"_id": {"$in": ids}}, "batchSize": MAX_IDS}
        cursor = (await self._first_reply(connection, database, find, time))["cursor"]
        for document in cursor["firstBatch"]:
            yield document
        while cursor["id"]:
            more = {"getMore": cursor["id"], "collection": collection}
            cursor = (await connection.request(database, more))["cursor"]
            for document in cursor["nextBatch"]:
                yield document

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


def _key(id: Any) -> bytes:
    """The BSON of an `_id`, as a key: 1 and 1.0 are two keys, and NaN equals itself."""
    return bson.encode({"": id})


def _parts(ids: dict[bytes, Any]) -> Iterator[list[Any]]:
    """The `_id`s in lists that fit into one command each."""
    part: list[Any] = []
    size = 0
    for key, id in ids.items():
        if part and (len(part) >= MAX_IDS or size + len(key) > MAX_ID_BYTES):
            yield part
            part, size = [], 0
        part.append(id)
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
