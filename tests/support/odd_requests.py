"""A server that listens as `server.py` does, and the whole answer to any bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

from brook.settings import Settings
from handlers import listening
from handlers.descriptors import Descriptors
from tests.support.logs import build_service


@asynccontextmanager
async def serving(**options) -> AsyncIterator[int]:
    """The port of a server that listens as `server.py` does."""
    service = build_service(**options)
    settings = Settings(host="127.0.0.1", port=0, **options)
    server = listening.listen(settings, service.app, Descriptors.of_this_process())
    try:
        yield server.port
    finally:
        server.stop()
        await server.close_all_connections()


async def answer(port: int, request: bytes, seconds: float = 20) -> bytes:
    """All that comes until the server ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with closing(writer):
        writer.write(request)
        async with asyncio.timeout(seconds):
            return await reader.read()
