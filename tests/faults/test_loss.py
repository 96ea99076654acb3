"""Nothing is lost, nothing comes twice, and the order stays, whatever is killed on the way.

Every client must end with exactly the documents that MongoDB's own log holds, in the log's order.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import psutil
import pytest

from sources.sandbox import Node, Sandbox
from tests.support.crowd import Crowd, Writers

CLIENTS = 200
IMPATIENT = "&socketTimeoutMS=2500&connectTimeoutMS=1000&heartbeatFrequencyMS=500"
"""Gives up on a frozen node in seconds."""
VERY_IMPATIENT = IMPATIENT + "&serverSelectionTimeoutMS=300"
"""Does not wait for an election either: the driver fails, and the server has to begin again."""


@pytest.fixture(scope="module")
def trio() -> Iterator[Sandbox]:
    """A replica set of three nodes: one may fail."""
    with Sandbox(3) as sandbox:
        yield sandbox


def test_two_hundred_clients_lose_nothing_when_the_server_is_killed_under_load(
    sandbox, database, start_server
):
    server = start_server("--mongo", sandbox.uri, "--database", database.name, "--retry-ms", "50")

    async def scenario() -> None:
        async with Crowd(server.port, CLIENTS) as crowd:
            with Writers(sandbox.uri, database.name, pause_seconds=0.02) as writers:
                for _ in range(4):
                    await writers.more(100)
                    server.kill()
                    await asyncio.to_thread(server.start)
                await crowd.until(lambda member: member.opened)
                await writers.more(100)
                truth = await writers.finish()
            await crowd.until_last()
            crowd.check(truth)
            print(
                f"\nrestarts: {len(truth)} documents, nobody waited more than {crowd.longest_silence():.1f} s"
            )
            assert all(member.connects >= 3 for member in crowd.members)

    asyncio.run(scenario())


def test_two_hundred_clients_lose_nothing_when_one_of_two_processes_is_killed(
    sandbox, database, start_server
):
    """They resume on the other one, or on the one that takes the place of the first."""
    server = start_server(
        "--mongo", sandbox.uri, "--database", database.name, "--retry-ms", "50", "--processes", "2"
    )

    async def scenario() -> None:
        async with Crowd(server.port, CLIENTS) as crowd:
            served = [clients_of(worker, server.port) for worker in psutil.Process(server.pid).children()]
            assert len(served) == 2
            assert min(served) > 0, "one of them serves nobody"
            with Writers(sandbox.uri, database.name, pause_seconds=0.02) as writers:
                for _ in range(4):
                    await writers.more(50)
                    workers = psutil.Process(server.pid).children()
                    max(workers, key=lambda worker: clients_of(worker, server.port)).kill()
                    await asyncio.to_thread(server.wait_for, "listening at")
                    await crowd.until(lambda member: member.opened)
                truth = await writers.finish()
            await crowd.until_last()
            crowd.check(truth)
            assert all(member.connects > 1 for member in crowd.members)

    asyncio.run(scenario())


def clients_of(process: psutil.Process, port: int) -> int:
    return sum(
        connection.laddr.port == port and connection.status == psutil.CONN_ESTABLISHED
        for connection in process.net_connections("tcp")
    )


@pytest.mark.parametrize("options", [(), ("--history-max-bytes", "0")], ids=["memory", "log"])
def test_clients_that_are_cut_off_at_random_lose_nothing(options, sandbox, database, start_server):
    """In the midst of a frame, of a batch, of a transaction; they resume from memory, or from the log."""
    server = start_server("--mongo", sandbox.uri, "--database", database.name, "--retry-ms", "10", *options)

    async def scenario() -> None:
        async with Crowd(server.port, CLIENTS) as crowd:
            with Writers(sandbox.uri, database.name, pause_seconds=0.02, batch=5, pad=500) as writers:
                crowd.cut_chance = 0.02
                while sum(member.connects for member in crowd.members) < 5 * CLIENTS:
                    await writers.more(20)
                    for member in random.sample(crowd.members, 20):
                        member.cut()
                crowd.cut_chance = 0
                truth = await writers.finish()
            await crowd.until_last()
            crowd.check(truth)

    asyncio.run(scenario())


def test_two_hundred_clients_lose_nothing_when_the_primary_steps_down(trio, start_server):
    async def disturb(writers: Writers) -> None:
        for _ in range(2):
            await writers.more(100)
            with trio.primary().client() as client:
                client.admin.command("replSetStepDown", 1, secondaryCatchUpPeriodSecs=1)
            trio.primary()

    _lose_nothing(trio, start_server, "stepped_down", disturb)


def test_two_hundred_clients_lose_nothing_when_the_primary_is_killed(trio, start_server):
    async def disturb(writers: Writers) -> None:
        await writers.more(100)
        killed = trio.primary()
        killed.stop(signal.SIGKILL)
        await writers.more(100)
        killed.start()
        killed.wait()
        await writers.more(100)

    _lose_nothing(trio, start_server, "killed", disturb)


def test_two_hundred_clients_lose_nothing_when_the_primary_freezes(trio, start_server):
    """The others elect a new one. When the old one comes back, it still believes that it is the primary."""

    async def disturb(writers: Writers) -> None:
        await writers.more(100)
        await _freeze(trio.primary())
        await writers.more(100)

    _lose_nothing(trio, start_server, "frozen", disturb)


def test_two_hundred_clients_lose_nothing_when_the_only_node_freezes_and_is_killed(start_server):
    async def disturb(writers: Writers) -> None:
        node = sandbox.nodes[0]
        await writers.more(100)
        await _freeze(node)
        await writers.more(100)
        node.stop(signal.SIGKILL)
        node.start()
        node.wait()
        await writers.more(100)

    with Sandbox() as sandbox:
        _lose_nothing(sandbox, start_server, "alone", disturb)


async def _freeze(node: Node) -> None:
    """Let a node answer nothing, and close nothing, for longer than the server's patience."""
    os.kill(node.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(5)
    finally:
        os.kill(node.pid, signal.SIGCONT)


def _lose_nothing(
    mongo: Sandbox, start_server: Any, name: str, disturb: Callable[[Writers], Awaitable[None]]
) -> None:
    """Clients listen and writers write while MongoDB is disturbed, and after."""
    # At a step down, the driver itself finds the way back.
    uri = mongo.uri + (IMPATIENT if name == "stepped_down" else VERY_IMPATIENT)
    server = start_server("--mongo", uri, "--database", name, "--retry-ms", "50")

    async def scenario() -> None:
        async with Crowd(server.port, CLIENTS) as crowd:
            with Writers(uri, name, pause_seconds=0.02) as writers:
                await disturb(writers)
                truth = await writers.finish()
            await crowd.until_last()
            crowd.check(truth)
            print(
                f"\n{name}: {len(truth)} documents, nobody waited longer than {crowd.longest_silence():.1f} s"
            )
            # The clients have noticed nothing: it is the server that came back.
            assert all(member.connects == 1 for member in crowd.members)
            if name in ("killed", "alone"):
                assert any("the change stream is interrupted" in line for line in server.log), server.log

    asyncio.run(scenario())
