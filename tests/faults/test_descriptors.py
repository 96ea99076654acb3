"""More clients than the process may have files open: it stays calm, tells them, and goes on by itself."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import urllib.request
from contextlib import ExitStack, closing

import psutil
import pymongo
import pytest

from handlers.descriptors import Descriptors
from sources.sandbox import Sandbox
from tests.support.processes import ServerProcess
from tests.support.raw_client import RawClient

FILES = 150
CLIENTS = 300
HALF = b"GET /stream HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
BODY = b"POST /stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000\r\n\r\nabc"


@pytest.fixture
def replica_set():
    """One to be restarted."""
    with Sandbox() as sandbox:
        yield sandbox


def get(server: ServerProcess, path: str) -> bytes:
    with urllib.request.urlopen(server.url + path, timeout=20) as answer:
        return answer.read()


def readiness(server: ServerProcess) -> list[str]:
    try:
        return json.loads(get(server, "/readyz"))["reasons"]
    except urllib.error.HTTPError as error:
        return json.loads(error.read())["reasons"]


def cpu_seconds(server: ServerProcess) -> float:
    times = psutil.Process(server.pid).cpu_times()
    return times.user + times.system


@pytest.mark.parametrize("requests", ["streams", HALF, BODY], ids=["streams", "half", "body"])
def test_server_without_a_free_file_answers_health_checks_and_follows_a_restarted_mongodb(
    requests, replica_set, start_server
):
    [node] = replica_set.nodes
    server = start_server("--mongo", replica_set.uri, "--database", "pond", files=FILES)

    async def crowd(stack: ExitStack) -> list[RawClient]:
        """More than fit; the streams among them that were let in."""
        clients = [RawClient(server.port) for _ in range(CLIENTS)]
        if requests == "streams":
            async with asyncio.timeout(60):
                await asyncio.gather(*(client.connect() for client in clients))
                await asyncio.gather(*(client.read() for client in clients))
            for client in clients:
                stack.callback(client.close)
            refused = [client for client in clients if client.events]
            assert refused
            for client in refused:
                [problem] = client.events
                assert problem.event == "problem"
                assert json.loads(problem.data)["code"] == "too-many-connections"
                assert json.loads(problem.data)["status"] == 429
            return [client for client in clients if not client.events]
        for _ in clients:
            connection = stack.enter_context(closing(socket.create_connection(("127.0.0.1", server.port))))
            connection.sendall(requests)
        return []

    async def scenario() -> None:
        with ExitStack() as stack, closing(await (await RawClient(server.port).connect()).opened()) as first:
            streams = await crowd(stack)
            assert await asyncio.to_thread(get, server, "/healthz") == b'{"status": "ok"}'
            assert "this server has its maximum number of clients" in await asyncio.to_thread(
                readiness, server
            )
            before = cpu_seconds(server)
            node.stop(signal.SIGKILL)
            await asyncio.to_thread(server.wait_for, "the change stream is interrupted")
            assert await asyncio.to_thread(get, server, "/healthz")
            node.start()
            await asyncio.to_thread(node.wait)
            await asyncio.to_thread(replica_set.primary)
            with pymongo.MongoClient(replica_set.uri) as client:
                client.pond.creatures.insert_one({"_id": 1})
            for listener in (first, *streams):
                assert (await listener.next(60)).data == '{"_id":1}'
            # Some seconds have passed; a loop that spins takes nearly all of them.
            assert cpu_seconds(server) - before < 2
        # All have left but for nobody: there is room again.
        async with asyncio.timeout(60):
            while True:
                with closing(await RawClient(server.port).connect()) as late:
                    await late.read()
                    if not late.events:
                        break

    asyncio.run(scenario())
    told = [line for line in server.log if "new clients are refused" in line]
    assert len(told) == 1
    assert not [line for line in server.log if re.search("Traceback|ERROR", line)]
    assert len([line for line in server.log if "client left" not in line]) < 40


def test_server_says_when_there_is_room_again(start_server):
    server = start_server("--demo", files=FILES)

    async def scenario() -> None:
        with ExitStack() as stack:
            for _ in range(CLIENTS // 2):
                client = await RawClient(server.port).connect()
                stack.callback(client.close)
        await asyncio.to_thread(server.wait_for, "new clients are accepted again", 60)

    asyncio.run(scenario())
    assert readiness(server) == []


@pytest.mark.parametrize("limit", [64, 150, 1024, 1_048_576])
def test_limits_leave_room_for_requests_and_for_mongodb(limit):
    descriptors = Descriptors(limit)
    assert 0 < descriptors.streams < descriptors.requests < limit
    assert limit - descriptors.requests >= min(64, 16)
    assert descriptors.requests - descriptors.streams >= min(16, limit // 8)
