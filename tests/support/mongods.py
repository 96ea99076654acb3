"""mongods that are not as the server wants them: without a replica set, or with users and passwords."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymongo

from sources.sandbox import Node


@contextmanager
def running(node: Node) -> Iterator[Node]:
    """A node, until the end of the block. It is killed: its data is not needed any more."""
    try:
        node.start()
        node.wait()
        yield node
    finally:
        node.stop(signal.SIGKILL)


@contextmanager
def guarded(
    folder: Path, password: str, users: Mapping[str, Sequence[Mapping[str, str]]]
) -> Iterator[tuple[Node, pymongo.MongoClient[Any]]]:
    """A replica set that wants a user and a password, and a client of its root. `users` have roles."""
    key = folder / "key"
    key.write_text("babblingbrook" * 4)
    key.chmod(0o600)
    with running(Node(folder / "node", ("--auth", "--keyFile", str(key)))) as node:
        host = f"127.0.0.1:{node.port}"
        with node.client() as client:
            client.admin.command("replSetInitiate", {"_id": "sandbox", "members": [{"_id": 0, "host": host}]})
            until = time.monotonic() + 30
            while not client.admin.command("hello").get("isWritablePrimary"):
                assert time.monotonic() < until
                time.sleep(0.02)
            # The first user may be created from this machine without any.
            client.admin.command("createUser", "root", pwd=password, roles=["root"])
        root: pymongo.MongoClient[Any]
        with pymongo.MongoClient(host, username="root", password=password, directConnection=True) as root:
            for name, roles in users.items():
                root.admin.command("createUser", name, pwd=password, roles=list(roles))
            yield node, root
