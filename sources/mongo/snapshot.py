"""A collection as it was at one cluster time."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from bson import Timestamp
from bson.raw_bson import RawBSONDocument
from pymongo.errors import PyMongoError

from brook.changes.resume_token import ClusterTime
from brook.errors import InvalidParameter, SnapshotTooLarge, SnapshotUnavailable
from sources.mongo import errors
from sources.mongo.tail import Deployment
from sources.mongo.wire import Connection

# Documents in one reply, as far as they fit into its 16 MB.
BATCH_DOCUMENTS = 1000


# A sort over two arrays of one document (BadValue), and one that needs more memory than MongoDB gives it.
_BAD_VALUE = 2
_OUT_OF_MEMORY = 292

# The filters and the order of this server compare text by its bytes, whatever the collection's collation.
_SIMPLE = {"locale": "simple"}


@dataclass(frozen=True, slots=True)
class Read:
    """One read: a query, an order or none, the first so many or all."""

    namespace: str
    query: bytes
    time: ClusterTime
    sort: bytes = b""
    limit: int = 0

    def command(self) -> dict[str, Any]:
        """The `find` command."""
        command: dict[str, Any] = {
            "find": self.namespace.partition(".")[2],
            "filter": RawBSONDocument(self.query),
            "batchSize": BATCH_DOCUMENTS,
            "collation": _SIMPLE,
            "readConcern": {"level": "snapshot", "atClusterTime": Timestamp(*self.time)},
        }
        if self.sort:
            command |= {"sort": RawBSONDocument(self.sort), "allowDiskUse": True}
        if self.limit:
            command["limit"] = self.limit
        return command


async def documents(deployment: Deployment, read: Read) -> AsyncGenerator[Sequence[bytes]]:
    """The documents, as BSON, in parts. Raises SnapshotUnavailable, and ClientError if MongoDB refuses.

    On a connection of its own, and without a time-out: a scan of a large collection may take long.
    """
    if not deployment.snapshots:
        raise SnapshotUnavailable("live mode needs MongoDB 5.0 or later")
    database, _, collection = read.namespace.partition(".")
    try:
        connection = await Connection.open(deployment.client, deployment.executor)
    except PyMongoError as error:
        raise SnapshotUnavailable(errors.one_line(error)) from error
    cursor: Any = None
    try:
        cursor = (await connection.request(database, read.command()))["cursor"]
        yield [bytes(document.raw) for document in cursor["firstBatch"]]
        while cursor["id"]:
            more = {"getMore": cursor["id"], "collection": collection}
            cursor = (await connection.request(database, more))["cursor"]
            yield [bytes(document.raw) for document in cursor["nextBatch"]]
    except PyMongoError as error:
        if errors.code(error) == _BAD_VALUE:
            raise InvalidParameter(f"MongoDB refuses this query: {errors.one_line(error)}") from error
        if errors.code(error) == _OUT_OF_MEMORY:
            raise SnapshotTooLarge(
                "MongoDB has not enough memory for this sort: it needs an index"
            ) from error
        raise SnapshotUnavailable(errors.one_line(error)) from error
    finally:
        if cursor is not None and cursor["id"] and not connection.waiting and not connection.lost:
            # MongoDB would keep the cursor for ten minutes.
            with contextlib.suppress(PyMongoError):
                connection.send(database, {"killCursors": collection, "cursors": [cursor["id"]]})
        connection.close()
