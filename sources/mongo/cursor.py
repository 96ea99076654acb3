"""One change stream cursor of MongoDB, on a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo.errors import AutoReconnect, PyMongoError

from sources.mongo.pipeline import Pipeline
from sources.mongo.wire import Connection

# Time for which MongoDB holds a getMore that finds nothing. An idle client's checkpoint may be out of date by
# as much.
AWAIT_MS = 1000

# A reply that takes longer is late: MongoDB looks for the next match in the log (maxTimeMS does not bound
# that), or it hangs.
LATE_SECONDS = 4.0

# Time between two looks at the server of a late reply.
LOOK_SECONDS = 1.0

# A MongoDB that hangs must not keep this process from closing a cursor.
CLOSE_SECONDS = 1.0

# Time after which a late reply is given up even though its server answers the driver's pings: the connection
# may be dead. The scan of the log then begins again, on a new connection.
PATIENCE_SECONDS = 240.0

SCANNING = "MongoDB is scanning its log for the next change, after many of other collections"


@dataclass(frozen=True, slots=True)
class Reply:
    """The changes of one reply, not decoded, and the resume token after them."""

    changes: Sequence[RawBSONDocument]
    token: RawBSONDocument | None
    alive: bool
    """False if the stream has ended with this reply."""


class Patience:
    """The time after which a late reply is given up. It doubles until a reply comes: the next scan begins at
    the same place, and would be given up there for ever.
    """

    def __init__(self) -> None:
        self.seconds = PATIENCE_SECONDS

    def double(self) -> None:
        self.seconds *= 2

    def reset(self) -> None:
        self.seconds = PATIENCE_SECONDS


class Cursor:
    """A change stream, read reply by reply, by one reader.

    `late` is called with a line for `/readyz` while a reply is late.
    """

    def __init__(
        self,
        client: Any,
        executor: Executor,
        late: Callable[[str], None],
        patience: Patience | None = None,
    ) -> None:
        self._client = client
        self._executor = executor
        self._late = late
        self._patience = patience or Patience()
        self._id = 0
        self._database = ""
        self._collection = ""
        self.connection: Connection | None = None

    async def open(self, database: str, stages: Pipeline) -> RawBSONDocument | None:
        """Open the cursor. Returns the resume token at which it begins. Raises PyMongoError."""
        self.connection = await Connection.open(self._client, self._executor)
        # Without a first batch the command returns at once, and a getMore does the scanning.
        self.connection.send(database, {"aggregate": 1, "pipeline": stages, "cursor": {"batchSize": 0}})
        return self._take((await self._reply(self.connection))["cursor"]).token

    async def read(self, batch_size: int | None = None, await_ms: int = AWAIT_MS) -> Reply:
        """Return the next reply, which is empty after `await_ms` without a change. Raises PyMongoError."""
        assert self.connection is not None  # open() was called
        command = {"getMore": self._id, "collection": self._collection, "maxTimeMS": await_ms}
        if batch_size is not None:
            command["batchSize"] = batch_size
        self.connection.send(self._database, command)
        reply = self._take((await self._reply(self.connection))["cursor"])
        self._patience.reset()
        return reply

    async def close(self) -> None:
        """Close the cursor and the connection. MongoDB would keep an unclosed cursor for ten minutes."""
        connection, self.connection = self.connection, None
        if connection is None:
            return
        try:
            with contextlib.suppress(PyMongoError, TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._kill(connection)
        finally:
            connection.close()

    async def _kill(self, connection: Connection) -> None:
        id, self._id = self._id, 0
        if not id or connection.lost:
            return
        kill = {"killCursors": self._collection, "cursors": [id]}
        if connection.waiting:
            # The reader was cancelled, and its getMore still runs.
            await self._client[self._database].command(kill)
        else:
            await connection.request(self._database, kill)

    def _take(self, cursor: Any) -> Reply:
        self._id = cursor["id"]
        self._database, _, self._collection = cursor["ns"].partition(".")
        changes = cursor["nextBatch"] if "nextBatch" in cursor else cursor["firstBatch"]
        return Reply(changes, cursor.get("postBatchResumeToken"), alive=bool(self._id))

    async def _reply(self, connection: Connection) -> Any:
        """Wait for the reply, also while MongoDB scans its log. Raises AutoReconnect if its server died."""
        began = time.monotonic()
        wait = LATE_SECONDS
        while True:
            try:
                async with asyncio.timeout(wait):
                    return await connection.reply()
            except TimeoutError:
                self._look(connection, time.monotonic() - began)
            wait = LOOK_SECONDS

    def _look(self, connection: Connection, seconds: float) -> None:
        """Raise AutoReconnect if the driver's pings fail, or if the reply is too late to be expected."""
        server = self._client.topology_description.server_descriptions().get(connection.address)
        host = f"{connection.address[0]}:{connection.address[1]}"
        if server is None or not server.is_server_type_known:
            raise AutoReconnect(f"{host}: no answer for {seconds:.0f} s")
        if seconds > self._patience.seconds:
            self._patience.double()
            raise AutoReconnect(f"{host}: no reply for {seconds:.0f} s, although it answers others")
        self._late(SCANNING)
