"""The real application on a real socket, in the test's own process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from brook.delivery.subscriber import Subscriber
from brook.event import Batch, Event
from brook.settings import Settings
from handlers import listening
from handlers.descriptors import Descriptors
from tests.support.events import after, events
from tests.support.fakes import until
from tests.support.logs import build_service


class Server:
    """The real application on a real socket, in this process; events 1 to 100 have happened."""

    def __init__(self, **options) -> None:
        self.service = build_service(**options)
        self.list = self.service.subscribers
        self.number = 100
        settings = Settings(host="127.0.0.1", port=0)
        self.http = listening.listen(settings, self.service.app, Descriptors.of_this_process())
        self.port = self.http.port

    def publish(self, count: int = 1, size: int = 10) -> None:
        happened: list[Event] = list(events(self.number + 1, self.number + count, size))
        self.number += count
        self.list.publish(Batch(tuple(happened), after(self.number)))

    async def stop(self) -> None:
        self.http.stop()
        await self.http.close_all_connections()
        for subscriber in self.subscribers():
            subscriber.connection.close()
        await until(lambda: len(self.list) == 0)

    def subscribers(self) -> list[Subscriber]:
        """All of them, the one that joined last at the end."""
        return list(self.list)


@asynccontextmanager
async def serving(**options) -> AsyncIterator[Server]:
    server = Server(**options)
    keeper = asyncio.create_task(server.service.keeper.run())
    try:
        yield server
    finally:
        await server.stop()
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
