"""The database of a measurement: writes documents, and times when a bare change stream sees them."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from pymongo import MongoClient

from bench.changes import READER, batches
from sources.sandbox import CREATURES, MOODS

_numbers = itertools.count(1)


def creature(number: int) -> dict[str, Any]:
    """Return a small document with its number and its time of insertion, which the load client reads.

    The time is in microseconds: nanoseconds may exceed JavaScript's integers.
    """
    return {
        "n": number,
        "t": time.monotonic_ns() // 1000,
        "type": random.choice(CREATURES),
        "mood": random.choice(MOODS),
        "size": random.randint(1, 40),
    }


class Database:
    """A new database for each measurement, dropped at the end."""

    collection = "creatures"

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.name = f"bench{next(_numbers)}"
        self._client: MongoClient[Any] = MongoClient(uri)
        self._creatures = self._client[self.name][self.collection]
        self._client[self.name].create_collection(self.collection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.drop_database(self.name)
        self._client.close()

    def write(
        self,
        numbers: range,
        together: int = 1,
        interval_seconds: float = 0,
        make: Callable[[int], dict[str, Any]] = creature,
        **more: int,
    ) -> None:
        """Insert documents with these numbers, in batches, at fixed moments."""
        due = time.monotonic()
        for i in range(0, len(numbers), together):
            time.sleep(max(0, due - time.monotonic()))
            self._creatures.insert_many([make(number) | more for number in numbers[i : i + together]])
            due += interval_seconds

    def now(self) -> tuple[int, int]:
        """Return the cluster time."""
        time = self._client.admin.command("ping")["operationTime"]
        return time.time, time.inc

    def change_streams(self) -> set[int]:
        """Return the ids of the change stream cursors that the servers have open on this database."""
        pipeline = [{"$currentOp": {"allUsers": True, "idleCursors": True}}]
        operations = self._client.admin.aggregate(pipeline)
        return {one["cursor"]["cursorId"] for one in operations if self._is_change_stream(one)}

    def _is_change_stream(self, operation: dict[str, Any]) -> bool:
        command = operation.get("cursor", {}).get("originatingCommand", {})
        stages = command.get("pipeline") or [{}]
        return (
            "$changeStream" in stages[0]
            and command.get("$db") == self.name
            and operation.get("appName") != READER
        )


class Reader:
    """A bare change stream beside the server under test. Measures the latency of the database alone."""

    def __init__(self, database: Database) -> None:
        self.latencies_ms: list[float] = []
        self._batches = batches(database.uri, database.name, database.collection, READER)
        next(self._batches)  # opens the stream
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._batches.close()

    def _read(self) -> None:
        while not self._stop.is_set():
            changes = next(self._batches)
            now = time.monotonic_ns() // 1000
            self.latencies_ms += [(now - change["fullDocument"]["t"]) / 1000 for change in changes]


class Cursors:
    """Polls the number of open change streams, and keeps the maximum."""

    def __init__(self, database: Database) -> None:
        self.max = 0
        self._database = database
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.max = max(self.max, len(self._database.change_streams()))
