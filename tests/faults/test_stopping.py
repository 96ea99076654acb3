"""Stopping in the very moment in which MongoDB dies."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from brook.settings import Settings
from sources.mongo import MongoSource
from sources.sandbox import Sandbox


@pytest.fixture(scope="module")
def mortal():
    """A replica set that is killed and started again."""
    with Sandbox() as sandbox:
        yield sandbox


class Half:
    """A tail whose connection has died while it was closed: pymongo then trips over a session."""

    async def close(self) -> None:
        raise AttributeError("'NoneType' object has no attribute 'mark_dirty'")


def test_source_is_closed_when_the_driver_trips_over_a_dead_connection(sandbox):
    async def scenario() -> None:
        source = MongoSource(sandbox.uri, Settings())
        await source.open()
        await source._live.close()
        source._live = Half()
        await source.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("milliseconds", [0, 2, 5, 10, 20, 50, 200])
def test_server_that_is_stopped_as_mongod_dies_ends_as_always(milliseconds, mortal, start_server):
    [node] = mortal.nodes
    server = start_server("--mongo", mortal.uri)
    os.kill(node.pid, signal.SIGKILL)
    try:
        time.sleep(milliseconds / 1000)  # any moment is right
        assert server.stop() == 0
        assert not [line for line in server.log if "Traceback" in line or "ERROR" in line]
    finally:
        node.stop()
        node.start()
        node.wait()
        mortal.primary()
