"""A guarded server on the shared MongoDB, and the tokens for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pymongo
import pytest
from pymongo.write_concern import WriteConcern

from tests.support.guarded import SECRET
from tests.support.processes import ServerProcess

Mint = Callable[..., str]


@pytest.fixture(scope="session")
def mint() -> Mint:
    """Makes a token with these claims."""

    def make(*, seconds: float = 60, **claims: Any) -> str:
        return jwt.encode({"exp": time.time() + seconds, **claims}, SECRET, "HS256")

    return make


@pytest.fixture(scope="module")
def orders(sandbox) -> Iterator[Any]:
    """The collection that the guarded servers stream."""
    with pymongo.MongoClient[Any](sandbox.uri) as client:
        database = client.get_database("guarded", write_concern=WriteConcern("majority"))
        client.drop_database("guarded")
        yield database.orders
        client.drop_database("guarded")


@pytest.fixture(scope="module")
def start_guarded(sandbox, tmp_path_factory) -> Iterator[Callable[..., ServerProcess]]:
    """Starts a server with a configuration file."""
    servers: list[ServerProcess] = []

    def start(configuration: str, *arguments: str) -> ServerProcess:
        folder: Path = tmp_path_factory.mktemp("guarded")
        (folder / "jwt.key").write_text(SECRET + "\n")
        (folder / "brook.toml").write_text(configuration)
        server = ServerProcess("--mongo", sandbox.uri, "--config", str(folder / "brook.toml"), *arguments)
        servers.append(server)
        return server.start()

    yield start
    for server in servers:
        server.kill()
