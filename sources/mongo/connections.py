"""Connections to MongoDB that wait for the next snapshot: to connect costs more than most snapshots."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

from sources.mongo.wire import Connection

# The driver counts an idle connection as taken. If these were all that it may open, its own requests would
# wait for ever.
_PART = 4


class Connections:
    """Up to `most` idle connections. One that is taken has to be given back, or closed."""

    def __init__(self, client: Any, executor: Executor, most: int) -> None:
        self._client = client
        self._executor = executor
        pool_size = client.delegate.options.pool_options.max_pool_size
        self._most = min(most, pool_size // _PART) if pool_size else most
        self._idle: list[Connection] = []
        self._is_closed = False

    def take(self) -> Connection | None:
        """The connection that was given back last; None if there is none.

        It may have been lost since, or lead to a server that is no longer the primary.
        """
        while self._idle:
            connection = self._idle.pop()
            if connection.is_idle:
                return connection
            connection.close()
        return None

    async def open(self) -> Connection:
        """A new connection. Raises PyMongoError."""
        return await Connection.open(self._client, self._executor)

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next read, if it is of use and there is room."""
        if connection.is_idle and len(self._idle) < self._most and not self._is_closed:
            self._idle.append(connection)
        else:
            connection.close()

    def clear(self) -> None:
        """Close the idle connections: one of them has failed, and the rest lead to the same server."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def close(self) -> None:
        """Close the idle connections now, and the others when they are given back."""
        self._is_closed = True
        self.clear()
