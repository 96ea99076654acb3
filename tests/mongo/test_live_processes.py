"""Live queries of a server of several processes: each reads its result sets for itself."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack, closing
from typing import Any

import psutil

from tests.support.copies import Copy
from tests.support.raw_client import RawClient

CLIENTS = 16


class Follower(Copy):
    """A copy, and the connection that keeps it true."""

    def __init__(self, client: RawClient) -> None:
        super().__init__()
        self.client = client

    async def until(self, documents: list[dict[str, Any]]) -> None:
        while sorted(self.held.values(), key=lambda one: one["_id"]) != documents:
            event = await self.client.next()
            self.apply(event.event, json.loads(event.data))


def served(worker: psutil.Process, port: int) -> int:
    found = worker.net_connections("tcp")
    return sum(one.laddr.port == port and one.status == psutil.CONN_ESTABLISHED for one in found)


def test_clients_of_every_process_hold_what_find_finds(sandbox, database, start_server):
    database.creatures.insert_many([{"_id": number} for number in range(3)])
    server = start_server("--mongo", sandbox.uri, "--database", database.name, "--processes", "2")

    async def scenario() -> None:
        with ExitStack() as stack:
            followers = []
            for _ in range(CLIENTS):
                client = await RawClient(server.port, "/stream/creatures?mode=live").connect()
                followers.append(Follower(stack.enter_context(closing(client))))
            for follower in followers:
                await follower.until([{"_id": 0}, {"_id": 1}, {"_id": 2}])
            workers = psutil.Process(server.pid).children()
            assert sorted(served(worker, server.port) > 0 for worker in workers) == [True, True]
            database.creatures.update_one({"_id": 1}, {"$set": {"size": 5}})
            database.creatures.delete_one({"_id": 2})
            database.creatures.insert_one({"_id": 9})
            for follower in followers:
                await follower.until(list(database.creatures.find().sort("_id")))

    asyncio.run(scenario())
