"""Idle connections to MongoDB, kept for the next snapshot: connecting takes longer than most snapshots."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

from sources.mongo.wire import Connection

# At most a quarter of the driver's pool is kept here. The driver counts an idle connection as taken: if the
# whole pool were kept, its own requests would wait for ever.
_PART = 4


class Connections:
    """Up to `max_idle` idle connections. A connection that is taken has to be given back, or closed."""

    def __init__(self, client: Any, executor: Executor, max_idle: int) -> None:
        self._client = client
        self._executor = executor
        pool_size = client.delegate.options.pool_options.max_pool_size
        self._max_idle = min(max_idle, pool_size // _PART) if pool_size else max_idle
        self._idle: list[Connection] = []
        self._is_closed = False

    def take(self) -> Connection | None:
        """Return the idle connection that was given back last; None if there is none.

        It may have been lost since, or lead to a server that is no longer the primary.
        """
        while self._idle:
            connection = self._idle.pop()
            if connection.is_idle:
                return connection
            connection.close()
        return None

    async def open(self) -> Connection:
        """Open a new connection. Raises PyMongoError."""
        return await Connection.open(self._client, self._executor)

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next read, if it is usable and there is room."""
        if connection.is_idle and len(self._idle) < self._max_idle and not self._is_closed:
            self._idle.append(connection)
        else:
            connection.close()

    def clear(self) -> None:
        """Close the idle connections. For use when one has failed: the others lead to the same server."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def close(self) -> None:
        """Close the idle connections now, and the others when they are given back."""
        self._is_closed = True
        self.clear()
