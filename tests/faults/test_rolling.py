"""Servers that are replaced one after the other, under load: no client sees a gap."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from contextlib import closing, suppress

from tests.support.raw_client import RawClient


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_server_goes_on_for_the_delay_and_is_not_ready_meanwhile(start_server):
    server = start_server("--demo", "--drain-delay-seconds", "3")

    async def scenario() -> None:
        first = await RawClient(server.port).connect()
        began = time.monotonic()
        server.process.terminate()
        while await asyncio.to_thread(status, server.url + "/readyz") == 200:
            assert time.monotonic() - began < 2
            await asyncio.sleep(0.01)
        assert await asyncio.to_thread(status, server.url + "/healthz") == 200
        second = await RawClient(server.port).connect()
        assert (await second.next()).data == "Sending 1"
        said = [await first.next() for _ in range(2)]
        assert [event.data for event in said] == ["Sending 1", "Sending 2"]
        ends = []
        for client in (first, second):
            while (event := await client.next()).event != "bye":
                pass
            ends.append(event)
            client.close()
        assert time.monotonic() - began > 2.5
        assert [json.loads(event.data) for event in ends] == [{"reason": "shutdown"}] * 2

    asyncio.run(scenario())
    assert server.process.wait(20) == 0


class Client:
    """A client that comes back for ever, to whichever server is open, and keeps every number."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.numbers: list[int] = []
        self.resets = 0
        self.connections = 0
        self.last_id = ""
        self._turn = id(self)

    async def run(self) -> None:
        while True:
            self._turn += 1
            port = self.ports[self._turn % len(self.ports)]
            with (
                suppress(OSError, EOFError, AssertionError),
                closing(await RawClient(port, last_id=self.last_id).connect()) as client,
            ):
                self.connections += client.status == 200
                await self._listen(client)
            await asyncio.sleep(0.02)

    async def _listen(self, client: RawClient) -> None:
        try:
            await client.opened()
            self.last_id = client.parser.last_id
            while True:
                event = await client.next()
                if event.event == "message":
                    self.numbers.append(json.loads(event.data)["_id"])
                elif event.event == "reset":
                    self.resets += 1
                elif event.event in ("bye", "problem"):
                    return
        finally:
            self.last_id = client.parser.last_id


def test_clients_see_no_gap_while_every_server_is_replaced(sandbox, database, start_server):
    options = (
        "--mongo", sandbox.uri, "--database", database.name,
        "--drain-delay-seconds", "0.3", "--drain-seconds", "2",
    )  # fmt: skip
    servers = [start_server(*options) for _ in range(2)]
    clients = [Client([server.port for server in servers]) for _ in range(100)]

    async def scenario() -> int:
        tasks = [asyncio.create_task(client.run()) for client in clients]
        await wait(lambda: all(client.last_id for client in clients))
        written = 0
        stop = asyncio.Event()

        async def write() -> None:
            nonlocal written
            while not stop.is_set():
                await asyncio.to_thread(database.creatures.insert_one, {"_id": written})
                written += 1
                await asyncio.sleep(0.01)

        writer = asyncio.create_task(write())
        for server in servers:
            await asyncio.sleep(0.5)
            assert await asyncio.to_thread(server.stop) == 0
            await asyncio.to_thread(server.start)
        await asyncio.sleep(0.5)
        stop.set()
        await writer
        await wait(lambda: all(len(client.numbers) >= written for client in clients))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return written

    async def wait(condition) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.02)

    written = asyncio.run(scenario())
    assert written > 50
    for client in clients:
        assert client.numbers == list(range(written)), "none lost, none twice, in order"
        assert client.resets == 0
        assert client.connections <= 1 + len(servers), "at most once for each server that was replaced"
