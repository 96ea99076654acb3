"""The throwaway MongoDB: what its writer and its server do when it is gone."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from contextlib import closing

import psutil
import pymongo
import pytest

from brook.errors import OperatorError
from sources.sandbox import Sandbox, babble
from tests.support.raw_client import RawClient

ENDED = "the sandbox's MongoDB has ended"


@pytest.fixture
def short_lived():
    """A sandbox to be killed."""
    with Sandbox() as sandbox:
        yield sandbox


def written(sandbox: Sandbox) -> int:
    """The number of the newest creature, 0 without any."""
    with pymongo.MongoClient(sandbox.uri) as client:
        newest = client.pond.creatures.find_one(sort=[("number", -1)])
    return newest["number"] if newest else 0


async def until_written(sandbox: Sandbox, writer: asyncio.Task[None], number: int) -> None:
    async with asyncio.timeout(60):
        while await asyncio.to_thread(written, sandbox) < number:
            await asyncio.sleep(0.1)
            assert not writer.done(), writer.exception()


def test_writer_waits_for_a_mongod_that_comes_back(short_lived):
    [node] = short_lived.nodes

    async def scenario() -> None:
        writer = asyncio.create_task(
            babble(short_lived.uri, "pond", "creatures", write_seconds=20, pause_seconds=(0.0, 0.001))
        )
        await until_written(short_lived, writer, 20)
        for _ in range(3):
            node.stop(signal.SIGKILL)
            node.start()
            await asyncio.to_thread(node.wait)
            await asyncio.to_thread(short_lived.primary)
            await until_written(short_lived, writer, written(short_lived) + 20)
        writer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writer

    asyncio.run(scenario())


def test_writer_ends_when_mongod_is_gone(short_lived):
    """Most likely in the middle of a write, which the driver then tries again."""
    [node] = short_lived.nodes

    async def scenario() -> None:
        writer = asyncio.create_task(
            babble(short_lived.uri, "pond", "creatures", write_seconds=1, pause_seconds=(0.0, 0.0))
        )
        await until_written(short_lived, writer, 1)
        node.stop(signal.SIGKILL)
        with pytest.raises(OperatorError, match=ENDED):
            await asyncio.wait_for(writer, 30)

    asyncio.run(scenario())


def test_writer_that_cannot_write_says_why_in_one_line(sandbox):
    with pytest.raises(
        OperatorError, match=r"cannot write to the sandbox's MongoDB: InvalidName: "
    ) as refused:
        asyncio.run(babble(sandbox.uri, "pond", "a..b"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("processes", [1, 2])
def test_server_whose_sandbox_dies_says_so_and_leaves_nobody_behind(start_server, processes):
    server = start_server("--sandbox", "--processes", str(processes))
    children = psutil.Process(server.pid).children(recursive=True)
    [mongod] = [child for child in children if child.name() == "mongod"]
    [remover] = [child for child in children if child.name() == "sh"]
    assert len(children) == (processes if processes > 1 else 0) + len([mongod, remover])

    async def scenario() -> None:
        with closing(await (await RawClient(server.port).connect()).opened()) as client:
            mongod.kill()
            while not client.events or client.events[-1].event != "bye":
                await client.next(60)
            assert json.loads(client.events[-1].data) == {"reason": "shutdown"}

    try:
        asyncio.run(scenario())
        server.wait_for(f"^babbling-brook: {ENDED}")
        assert server.process.wait(60) == 1
        assert not [child for child in children if child.is_running()]
    finally:
        for child in children:
            if child.is_running():
                child.kill()
    assert not [line for line in server.log if re.search("Traceback|ERROR", line)]
