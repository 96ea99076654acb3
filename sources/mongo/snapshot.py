"""A collection as it was at one cluster time."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from bson import Timestamp
from bson.raw_bson import RawBSONDocument
from pymongo.errors import PyMongoError

from brook.changes.resume_token import ClusterTime
from brook.errors import SnapshotUnavailable
from sources.mongo import errors
from sources.mongo.tail import Deployment
from sources.mongo.wire import Connection

# Documents in one reply, as far as they fit into its 16 MB.
BATCH_DOCUMENTS = 1000


async def documents(
    deployment: Deployment, namespace: str, query: bytes, time: ClusterTime
) -> AsyncGenerator[Sequence[bytes]]:
    """The documents that match a query, as BSON, in parts. Raises SnapshotUnavailable.

    On a connection of its own, and without a time-out: a scan of a large collection may take long.
    """
    if not deployment.snapshots:
        raise SnapshotUnavailable("live mode needs MongoDB 5.0 or later")
    database, _, collection = namespace.partition(".")
    find: dict[str, Any] = {
        "find": collection,
        "filter": RawBSONDocument(query),
        "batchSize": BATCH_DOCUMENTS,
        "readConcern": {"level": "snapshot", "atClusterTime": Timestamp(*time)},
    }
    try:
        connection = await Connection.open(deployment.client, deployment.executor)
    except PyMongoError as error:
        raise SnapshotUnavailable(errors.one_line(error)) from error
    cursor: Any = None
    try:
        cursor = (await connection.request(database, find))["cursor"]
        yield [bytes(document.raw) for document in cursor["firstBatch"]]
        while cursor["id"]:
            more = {"getMore": cursor["id"], "collection": collection}
            cursor = (await connection.request(database, more))["cursor"]
            yield [bytes(document.raw) for document in cursor["nextBatch"]]
    except PyMongoError as error:
        raise SnapshotUnavailable(errors.one_line(error)) from error
    finally:
        if cursor is not None and cursor["id"] and not connection.waiting and not connection.lost:
            # MongoDB would keep the cursor for ten minutes.
            with contextlib.suppress(PyMongoError):
                connection.send(database, {"killCursors": collection, "cursors": [cursor["id"]]})
        connection.close()
