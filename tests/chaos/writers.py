"""Threads that insert, update and delete documents, and give each write a number of its own."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pymongo
from pymongo import DeleteOne, InsertOne, UpdateOne, WriteConcern
from pymongo.errors import PyMongoError

from tests.chaos import keys
from tests.chaos.queries import group
from tests.chaos.witness import CODEC

SPAN = 1_000_000_000
"""A stamp is the writer's number times this, and a count."""
KEPT = 40
"""The number of documents of a writer; it then deletes old ones."""
PATIENCE = "socketTimeoutMS=5000&connectTimeoutMS=1000&serverSelectionTimeoutMS=5000&heartbeatFrequencyMS=500"


def stamped(stamp: int) -> dict[str, int]:
    return {"n": stamp, "g": group(stamp)}


class Writer:
    """One writer: its documents, and the stamps that MongoDB has acknowledged with a majority."""

    def __init__(self, number: int, seed: int, uri: str, pause_seconds: float) -> None:
        self.number = number
        self.acknowledged: list[int] = []
        self.deleted: list[Any] = []
        """Acknowledged deletes."""
        self.failures = 0
        self._chance = random.Random(f"{seed} writer {number}")
        self._pause_seconds = pause_seconds
        self._client: Any = pymongo.MongoClient(f"{uri}&{PATIENCE}")
        self._creatures = self._client.chaos.get_collection(
            "creatures", CODEC, write_concern=WriteConcern("majority", wtimeout=5000)
        )
        self._documents: deque[Any] = deque()
        self._inserted = 0
        self._stamp = number * SPAN
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive(), "a writer hangs"
        self._client.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            rounds: tuple[Callable[[], None], ...] = (self._write_one_by_one, self._write_transaction)
            try:
                rounds[self._chance.random() < 0.3]()
            except PyMongoError:
                # Nobody knows whether it was written: the log will tell.
                self.failures += 1
                self._stop.wait(0.2)
            self._stop.wait(self._pause_seconds)

    def _next(self) -> int:
        self._stamp += 1
        return self._stamp

    def _requests(self) -> tuple[list[Any], list[int], list[Any]]:
        """Writes, their stamps, and the `_id`s that they delete."""
        requests: list[Any] = []
        stamps: list[int] = []
        deleted: list[Any] = []
        for _ in range(self._chance.randint(1, 8)):
            stamps.append(self._next())
            id = keys.make(self.number, self._inserted)
            self._inserted += 1
            requests.append(InsertOne({"_id": id, "w": self.number, **stamped(stamps[-1]), "pad": "~" * 40}))
            self._documents.append(id)
        for _ in range(self._chance.randint(0, 6)):
            stamps.append(self._next())
            id = self._documents[self._chance.randrange(len(self._documents))]
            requests.append(UpdateOne({"_id": id}, {"$set": stamped(stamps[-1])}))
        while len(self._documents) > KEPT:
            deleted.append(self._documents.popleft())
            requests.append(DeleteOne({"_id": deleted[-1]}))
        return requests, stamps, deleted

    def _write_one_by_one(self) -> None:
        requests, stamps, deleted = self._requests()
        result = self._creatures.bulk_write(requests, ordered=True)
        self._acknowledge(result, stamps, deleted)

    def _write_transaction(self) -> None:
        requests, stamps, deleted = self._requests()
        creatures = self._client.chaos.get_collection("creatures", CODEC)
        with self._client.start_session() as session:
            result = session.with_transaction(
                lambda session: creatures.bulk_write(requests, session=session),
                write_concern=WriteConcern("majority", wtimeout=5000),
            )
        self._acknowledge(result, stamps, deleted)

    def _acknowledge(self, result: Any, stamps: list[int], deleted: list[Any]) -> None:
        # An update of a document whose insert has failed changes nothing.
        if result.inserted_count + result.modified_count == len(stamps):
            self.acknowledged += stamps
        if result.deleted_count == len(deleted):
            self.deleted += deleted
