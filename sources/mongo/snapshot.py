"""A collection as it was at one cluster time."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson import Timestamp
from bson.raw_bson import RawBSONDocument
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

from brook.changes.resume_token import ClusterTime
from brook.errors import InvalidParameter, SnapshotTooLarge, SnapshotUnavailable
from sources.mongo import errors
from sources.mongo.connections import Connections
from sources.mongo.wire import Connection

# Documents in one reply, as far as they fit into its 16 MB.
BATCH_DOCUMENTS = 1000

# A sort over two arrays of one document (BadValue), and one that needs more memory than MongoDB gives it.
_BAD_VALUE = 2
_OUT_OF_MEMORY = 292

# Errors of a query, not of the server or the connection.
_REFUSALS = frozenset({_BAD_VALUE, _OUT_OF_MEMORY})

# The driver lends a connection unchecked if it was used within a second: so many of them may be lost already.
_LENT_UNCHECKED = 2

# This server's filters and orders compare strings by their bytes, whatever the collection's collation.
_SIMPLE = {"locale": "simple"}


@dataclass(frozen=True, slots=True)
class Read:
    """One read of a collection. Without `sort` in no order; with a `limit` of 0 all documents."""

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


async def documents(connections: Connections, read: Read) -> AsyncGenerator[Sequence[bytes]]:
    """The documents, as BSON, in parts. Raises SnapshotUnavailable, or ClientError if the query is refused.

    Reads on a connection of its own, and without a time-out: a scan of a large collection may take long.
    """
    try:
        async with contextlib.aclosing(_parts(connections, read)) as parts:
            async for part in parts:
                yield part
    except PyMongoError as error:
        if errors.code(error) == _BAD_VALUE:
            raise InvalidParameter(f"MongoDB refuses this query: {errors.one_line(error)}") from error
        if errors.code(error) == _OUT_OF_MEMORY:
            raise SnapshotTooLarge(
                "MongoDB has not enough memory for this sort: it needs an index"
            ) from error
        raise SnapshotUnavailable(errors.one_line(error)) from error


async def _parts(connections: Connections, read: Read) -> AsyncGenerator[Sequence[bytes]]:
    database, _, collection = read.namespace.partition(".")
    connection, cursor = await _begin(connections, database, read.command())
    try:
        yield [bytes(document.raw) for document in cursor["firstBatch"]]
        while cursor["id"]:
            more = {"getMore": cursor["id"], "collection": collection}
            cursor = (await connection.request(database, more))["cursor"]
            yield [bytes(document.raw) for document in cursor["nextBatch"]]
    finally:
        if cursor["id"] and connection.is_idle:
            # MongoDB would keep the cursor for ten minutes.
            with contextlib.suppress(PyMongoError):
                connection.send(database, {"killCursors": collection, "cursors": [cursor["id"]]})
        # After a killCursors, a reply is still to come, so `give_back` closes the connection.
        connections.give_back(connection)


async def _begin(
    connections: Connections, database: str, command: Mapping[str, Any]
) -> tuple[Connection, Any]:
    """Send a `find`. If a used connection fails, try a new one: MongoDB itself may be well."""
    if (used := connections.take()) is not None:
        try:
            return used, await _cursor(connections, used, database, command)
        except PyMongoError as error:
            if errors.code(error) in _REFUSALS:
                raise
            connections.clear()
    for _ in range(_LENT_UNCHECKED):
        connection = await connections.open()
        with contextlib.suppress(AutoReconnect):
            return connection, await _cursor(connections, connection, database, command)
    connection = await connections.open()
    return connection, await _cursor(connections, connection, database, command)


async def _cursor(
    connections: Connections, connection: Connection, database: str, command: Mapping[str, Any]
) -> Any:
    try:
        return (await connection.request(database, command))["cursor"]
    except OperationFailure as error:
        if errors.code(error) in _REFUSALS:
            connections.give_back(connection)
        else:
            connection.close()
        raise
    except BaseException:
        connection.close()
        raise
