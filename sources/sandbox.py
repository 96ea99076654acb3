"""A throwaway MongoDB: for a first look (`--sandbox`), the tests and the benchmarks."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bson import json_util
from bson.errors import BSONError
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import MongoClient
from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from brook.errors import BadRequest, NotReady, OperatorError
from brook.workers import end_with_parent
from sources.mongo.errors import one_line

START_SECONDS = 30

# Time for a write, also during an election, which takes a second or two here. The driver tries a write twice:
# the server ends some ten seconds after its MongoDB.
WRITE_SECONDS = 5

# Time for the insertion of a document: a person waits for it.
INSERT_SECONDS = 5

# Minimum and maximum time between two changes: people watch them.
PAUSE_SECONDS = (0.5, 2.0)

_MISSING = (
    "there is no mongod on the PATH: install MongoDB, or the one that comes as a Python package with "
    "pip install '.[sandbox]' in this project's folder"
)

_ENDED = "the sandbox's MongoDB has ended, or does not answer any more: start the server again, for a new one"

# The journal is flushed every 100 ms by default, and a majority write waits for that flush.
_OPTIONS = (
    "--bind_ip", "127.0.0.1", "--nounixsocket",
    "--journalCommitInterval", "2", "--wiredTigerCacheSizeGB", "0.25",
    "--setParameter", "diagnosticDataCollectionEnabled=false",
)  # fmt: skip

# Waits until its parent has ended, or closes the pipe, and then removes a folder. It tries several times: a
# mongod that is just being killed may still write there.
_REMOVE = 'read _; tries=0; until rm -rf "$1" || [ $((tries += 1)) -gt 100 ]; do sleep 0.1; done'

CREATURES = ("crawdad", "minnow", "water strider", "newt", "mayfly", "heron", "otter", "dragonfly")
MOODS = ("calm", "curious", "hungry", "sleepy", "splashing")


class Stopped(Exception):
    """The sandbox was told to stop while it started."""


def _never() -> bool:
    return False


def find_mongod() -> str:
    """The mongod to run: the one on the PATH, or the `sandbox` extra's. Raises OperatorError."""
    if found := shutil.which("mongod"):
        return found
    spec = importlib.util.find_spec("fiftyone")
    for place in spec.submodule_search_locations or () if spec else ():
        program = Path(place) / "db" / "bin" / "mongod"
        if program.exists():
            return str(program)
    raise OperatorError(_MISSING)


class Node:
    """One mongod, with a folder of its own. With an empty `replica_set`, it is a standalone."""

    def __init__(self, folder: Path, options: Sequence[str] = (), *, replica_set: str = "sandbox") -> None:
        self.port = _free_port()
        self._folder = folder
        self._options = [*_OPTIONS, *(("--replSet", replica_set) if replica_set else ()), *options]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it, or start it again with its data."""
        self._folder.mkdir(parents=True, exist_ok=True)
        log = self._folder / "mongod.log"
        command = [find_mongod(), *self._options, "--port", str(self.port)]
        command += ["--dbpath", str(self._folder), "--logpath", str(log), "--logappend"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            # A server that is killed must not leave its mongod behind.
            preexec_fn=partial(_end_with, os.getpid()),
        )  # fmt: skip

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> None:
        """Stop it, and wait until it has ended."""
        if self._process is not None:
            self._process.send_signal(with_signal)
            # A suspended process (SIGSTOP) would never act on the signal.
            self._process.send_signal(signal.SIGCONT)
            self._process.wait()
            self._process = None

    def client(self, patience_ms: int = 5000) -> MongoClient[Any]:
        """A connection to this node, whatever its role."""
        return MongoClient(
            "127.0.0.1", self.port, directConnection=True, serverSelectionTimeoutMS=patience_ms
        )

    def wait(self, stopped: Callable[[], bool] = _never) -> None:
        """Return when it answers. Raises OperatorError, with the end of its log, or Stopped."""
        until = time.monotonic() + START_SECONDS
        with self.client(patience_ms=500) as client:
            while time.monotonic() < until:
                if stopped():
                    raise Stopped
                if self._process is None or self._process.poll() is not None:
                    break
                with contextlib.suppress(PyMongoError):
                    client.admin.command("ping")
                    return
        log = self._folder / "mongod.log"
        # There is no log file if mongod did not accept its options.
        tail = log.read_text(errors="replace")[-500:] if log.exists() else "it refused its options"
        raise OperatorError(f"mongod did not start: {tail}")


class Sandbox:
    """A private replica set of one or more nodes on free ports; gone when it is closed."""

    def __init__(
        self, nodes: int = 1, options: Sequence[str] = (), *, stopped: Callable[[], bool] = _never
    ) -> None:
        self._stopped = stopped
        self._folder = Path(tempfile.gettempdir()) / f"brook-sandbox-{secrets.token_hex(8)}"
        self._remover: subprocess.Popen[bytes] | None = None
        self.nodes = [Node(self._folder / f"node{number}", options) for number in range(nodes)]

    @property
    def uri(self) -> str:
        """The whole set's URI."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"mongodb://{hosts}/?replicaSet=sandbox"

    def start(self) -> Sandbox:
        """Start the nodes and wait for a primary. Raises OperatorError, or Stopped when told to stop."""
        try:
            # Started before the folder is made: this process may be killed at any moment.
            self._remover = subprocess.Popen(
                ["/bin/sh", "-c", _REMOVE, "sh", str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            # Only this user may read the folder.
            self._folder.mkdir(mode=0o700)
            for node in self.nodes:
                node.start()
            for node in self.nodes:
                node.wait(self._stopped)
            self._initiate()
        except BaseException:
            self.close()
            raise
        return self

    def primary(self) -> Node:
        """The node that takes writes; waits for an election. Raises OperatorError."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self._stopped():
                raise Stopped
            for node in self.nodes:
                if node.pid is None:
                    continue
                with contextlib.suppress(PyMongoError), node.client() as client:
                    if client.admin.command("hello").get("isWritablePrimary"):
                        return node
            time.sleep(0.05)
        raise OperatorError("the sandbox has no primary")

    def close(self) -> None:
        """Stop everything and remove its files."""
        for node in self.nodes:
            node.stop(signal.SIGKILL)
        if self._remover is not None:
            self._remover.communicate()

    def __enter__(self) -> Sandbox:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _initiate(self) -> None:
        members = [
            {"_id": number, "host": f"127.0.0.1:{node.port}"} for number, node in enumerate(self.nodes)
        ]
        # Elections in a second rather than in ten.
        timing = {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 200}
        config = {"_id": "sandbox", "members": members, "settings": timing}
        with self.nodes[0].client() as client:
            client.admin.command("replSetInitiate", config)
        self.primary()
        # A change stream cannot be opened before the primary has committed a first entry.
        with MongoClient[Any](self.uri) as client:
            # A no-op in the log. An insert would leave a database behind, and the server would list it.
            client.admin.command("appendOplogNote", 1, data={}, writeConcern={"w": "majority"})


class Insertion:
    """Inserts documents that a request brings. Create it in the event loop."""

    def __init__(self, uri: str) -> None:
        self._client: Any = AsyncIOMotorClient(uri, serverSelectionTimeoutMS=1000 * INSERT_SECONDS)

    async def insert(self, namespace: str, text: str) -> str:
        """Insert a document in extended JSON, and return its position: the time of the write in the log.

        Raises BadRequest if the text is not a document, or MongoDB refuses it; NotReady if it takes none now.
        """
        database, _, collection = namespace.partition(".")
        try:
            document = json_util.loads(text, json_options=json_util.RELAXED_JSON_OPTIONS)
        except json.JSONDecodeError as error:
            raise BadRequest(f"the document is not JSON: {error}") from None
        except Exception:
            # Each type of extended JSON raises errors of its own.
            raise BadRequest(
                "the document has a value that is not extended JSON; a date is written as"
                ' {"$date": "2026-11-22T06:00:00Z"}'
            ) from None
        if not isinstance(document, dict):
            raise BadRequest('a document is an object, such as {"type": "newt"}')
        try:
            async with await self._client.start_session() as session:
                await self._client[database][collection].insert_one(document, session=session)
                time = session.operation_time
        except (ConnectionFailure, OSError):
            raise NotReady("the sandbox's MongoDB does not answer") from None
        except OperationFailure as error:
            raise BadRequest(f"MongoDB refuses the document: {one_line(error)}") from None
        except (PyMongoError, BSONError, OverflowError, ValueError, TypeError) as error:
            raise BadRequest(f"the document cannot be stored: {_reason(error)}") from None
        return f"t{time.time}.{time.inc}"

    def close(self) -> None:
        """Close its connections."""
        self._client.close()


async def babble(
    uri: str,
    database: str,
    collection: str,
    *,
    write_seconds: float = WRITE_SECONDS,
    pause_seconds: tuple[float, float] = PAUSE_SECONDS,
) -> None:
    """Insert, update and delete a creature now and then, for ever.

    Waits out an election. Raises OperatorError when MongoDB is gone, or refuses to write.
    """
    client: Any = AsyncIOMotorClient(uri, serverSelectionTimeoutMS=round(1000 * write_seconds))
    try:
        await _babble(client[database]["creatures" if collection == "*" else collection], pause_seconds)
    except ServerSelectionTimeoutError:
        raise OperatorError(_ENDED) from None
    except PyMongoError as error:
        raise OperatorError(f"cannot write to the sandbox's MongoDB: {one_line(error)}") from None
    finally:
        client.close()


async def _babble(creatures: Any, pause_seconds: tuple[float, float]) -> None:
    here: list[Any] = []
    for number in itertools.count(1):
        await asyncio.sleep(random.uniform(*pause_seconds))
        try:
            await _change_one(creatures, here, number)
        except ServerSelectionTimeoutError:
            raise
        except AutoReconnect:
            pass  # the primary was lost during the write; the next write waits for a new one


async def _change_one(creatures: Any, here: list[Any], number: int) -> None:
    chance = random.random()
    if here and (chance < 0.2 or len(here) > 20):
        await creatures.delete_one({"_id": here.pop(random.randrange(len(here)))})
    elif here and chance < 0.5:
        await creatures.update_one({"_id": random.choice(here)}, {"$set": {"mood": random.choice(MOODS)}})
    else:
        creature = {"type": random.choice(CREATURES), "number": number, "size": random.randint(1, 40)}
        here.append((await creatures.insert_one(creature)).inserted_id)


def _reason(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def _end_with(parent: int) -> None:
    """Runs in the child: end it with its parent, also if the parent has already ended."""
    end_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
