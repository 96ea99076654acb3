"""sse-starlette in uvicorn: a queue for each client, as in its own broadcast examples."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from pymongo import AsyncMongoClient
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

queues: set[asyncio.Queue[ServerSentEvent]] = set()


async def stream(request: Request) -> EventSourceResponse:
    queue: asyncio.Queue[ServerSentEvent] = asyncio.Queue()
    queues.add(queue)

    async def events() -> AsyncIterator[ServerSentEvent]:
        try:
            while True:
                yield await queue.get()
        finally:
            queues.discard(queue)

    return EventSourceResponse(events(), ping=15)


async def follow() -> None:
    client: AsyncMongoClient[Any] = AsyncMongoClient(os.environ["MONGO_URI"])
    collection = client[os.environ["DATABASE"]][os.environ["COLLECTION"]]
    async with await collection.watch(full_document="updateLookup") as changes:
        async for change in changes:
            data = json.dumps(change["fullDocument"], default=str)
            event = ServerSentEvent(data=data, id=change["_id"]["_data"])
            for queue in queues:
                queue.put_nowait(event)


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    following = asyncio.create_task(follow())
    yield
    following.cancel()


app = Starlette(routes=[Route("/stream", stream)], lifespan=lifespan)

if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        backlog=4096,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
    )
