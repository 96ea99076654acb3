"""The real parts that tests share: MongoDB, and servers as processes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pymongo
import pytest
from pymongo import WriteConcern

from sources.sandbox import Sandbox
from tests.support.processes import ServerProcess


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start a MongoDB, a browser or a server: `make test-fast` leaves them out."""
    for item in items:
        names = getattr(item, "fixturenames", ())
        if "sandbox" in names or "nodes" in names:
            item.add_marker(pytest.mark.mongod)
        if "chromium" in names or "firefox" in names:
            item.add_marker(pytest.mark.browser)
        if "start_server" in names:
            item.add_marker(pytest.mark.process)


@pytest.fixture(scope="session", autouse=True)
def _no_loop_before_the_first() -> None:
    """Tornado asks for the event loop before its own, and asyncio would make one that nobody closes: some
    later test, in which the collector comes by, would fail for it.
    """
    asyncio.set_event_loop(None)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """A replica set of one node, for the whole run. Tests use databases of their own.

    Where nothing is written, its log moves on each second instead of each ten.
    """
    with Sandbox(options=("--setParameter", "periodicNoopIntervalSecs=1")) as sandbox:
        yield sandbox


@pytest.fixture
def database(sandbox: Sandbox, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A database of the test's own on the shared node; what it acknowledges is committed."""
    name = "t" + format(abs(hash(request.node.nodeid)), "x")[:16]
    with pymongo.MongoClient[Any](sandbox.uri) as client:
        yield client.get_database(name, write_concern=WriteConcern("majority"))
        client.drop_database(name)


@pytest.fixture
def start_server() -> Iterator[Any]:
    """Starts `server.py` as a process; stops it when the test ends."""
    servers: list[ServerProcess] = []

    def start(*arguments: str, **options: Any) -> ServerProcess:
        server = ServerProcess(*arguments, **options)
        servers.append(server)
        return server.start()

    yield start
    for server in servers:
        server.kill()
