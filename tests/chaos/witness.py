"""Reads MongoDB's own log while it is written: the truth that the clients' records are compared with.

It reads a node directly, with majority read concern, so neither a fault of a link nor a rollback reaches it.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any

import pymongo
from bson import CodecOptions, Timestamp
from bson.binary import UuidRepresentation
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from tests.chaos import keys
from tests.chaos.truth import DELETE, INSERT, UPDATE, LostLog, Operation, cluster_time

CODEC: CodecOptions[Any] = CodecOptions(tz_aware=True, uuid_representation=UuidRepresentation.STANDARD)
PAUSE_SECONDS = 0.05
KINDS = {"i": INSERT, "u": UPDATE, "d": DELETE}


class Witness:
    """The operations on one collection so far. `ports` are those of the nodes themselves."""

    def __init__(self, ports: list[int], namespace: str, numbers: keys.Keys) -> None:
        self._ports = ports
        self._namespace = namespace
        self._numbers = numbers
        self._writers: dict[int, int] = {}
        self._position: Timestamp | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.operations: list[Operation] = []
        self.failure = ""
        """Why the run proves nothing: the witness itself has missed something."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def position(self) -> int:
        """Everything up to this cluster time is known."""
        return cluster_time(self._position.time, self._position.inc) if self._position else 0

    def _run(self) -> None:
        turn = 0
        while not self._stop.is_set() and not self.failure:
            client: Any = pymongo.MongoClient(
                "127.0.0.1", self._ports[turn % len(self._ports)], directConnection=True,
                serverSelectionTimeoutMS=300, socketTimeoutMS=2000, connectTimeoutMS=500,
            )  # fmt: skip
            turn += 1
            try:
                self._follow(client)
            except PyMongoError:
                self._stop.wait(PAUSE_SECONDS)
            finally:
                client.close()

    def _follow(self, client: Any) -> None:
        log = client.local.get_collection("oplog.rs", CODEC, read_concern=ReadConcern("majority"))
        still = 0
        while not self._stop.is_set() and not self.failure:
            before = self._position
            self._read(log)
            still = still + 1 if self._position == before else 0
            if still * PAUSE_SECONDS > 2:
                return  # perhaps it is cut off from the others, which go on
            self._stop.wait(PAUSE_SECONDS)

    def _read(self, log: Any) -> None:
        newest = log.find_one(sort=[("$natural", -1)], projection={"ts": 1})
        if newest is None or (self._position and newest["ts"] <= self._position):
            return
        if self._position is None:
            self._position = newest["ts"]
            return
        ours = {"$or": [
            {"op": {"$in": list(KINDS)}, "ns": self._namespace},
            {"op": "c", "o.applyOps.ns": self._namespace},
        ]}  # fmt: skip
        between = {"ts": {"$gt": self._position, "$lte": newest["ts"]}}
        entries = list(log.find(between | ours).sort("$natural", 1))
        oldest = log.find_one(sort=[("$natural", 1)], projection={"ts": 1})
        if oldest["ts"] > self._position:
            self.failure = f"the log has forgotten {self._position} before the witness had read it"
            return
        for entry in entries:
            time = cluster_time(entry["ts"].time, entry["ts"].inc)
            inner = entry["o"]["applyOps"] if entry["op"] == "c" else [entry]
            self.operations += [
                self._operation(time, each) for each in inner if each["ns"] == self._namespace
            ]
        self._position = newest["ts"]

    def _operation(self, time: int, entry: dict[str, Any]) -> Operation:
        kind = KINDS[entry["op"]]
        key = self._numbers.number(keys.text(entry["o2" if kind == UPDATE else "o"]["_id"]))
        if kind == INSERT:
            self._writers[key] = entry["o"]["w"]
        writer = self._writers[key]
        stamp = 0 if kind == DELETE else _stamp(entry["o"])
        return Operation(time, kind, key, stamp, writer)


def _stamp(change: dict[str, Any]) -> int:
    """The field `n` of an insert, or of an update's difference."""
    if "diff" in change:
        difference = change["diff"]
        return int((difference.get("u") or difference["i"])["n"])
    return int(change["n"])


def forget_everything(node: Any, is_known: Callable[[int], bool], copies: int) -> LostLog:
    """Write elsewhere until the log begins after now; each write has reached all nodes."""
    start = node.admin.command("ping")["operationTime"]
    now = cluster_time(start.time, start.inc)
    filler = node.elsewhere.get_collection(
        "filler", write_concern=pymongo.WriteConcern(copies, wtimeout=20_000)
    )
    pad = uuid.uuid4().hex * 8_000
    for _ in range(400):
        first = node.local["oplog.rs"].find_one(sort=[("$natural", 1)], projection={"ts": 1})["ts"]
        oldest = cluster_time(first.time, first.inc)
        if oldest > now and is_known(now):
            filler.drop()
            return LostLog(oldest)
        filler.insert_many([{"pad": pad} for _ in range(8)])
    raise AssertionError("the log does not forget")
