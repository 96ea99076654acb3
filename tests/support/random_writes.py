"""Threads that write at random to few documents, and `find` at the time of each event."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from bson import Timestamp
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

from brook.changes import resume_token


class Drops:
    """The drops of a collection. MongoDB shows nothing of a time before one, instead of refusing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = Timestamp(0, 0)

    def drop(self, creatures: Any) -> None:
        with self._lock:
            try:
                creatures.drop()
            finally:
                # Without a primary, nobody knows if it was dropped.
                self._last = _now(creatures)

    def find(self, creatures: Any, id: str, asked: Sequence[Mapping[str, Any]]) -> list[Documents] | None:
        """The documents of some queries at the time of an id, by the text of their `_id`, in order.

        None if that was before a drop, or if MongoDB cannot read there, as just after one.
        """
        with self._lock:
            time = Timestamp(*resume_token.cluster_time(resume_token.position(id).key))
            try:
                return [_found(creatures, time, each) for each in asked] if time > self._last else None
            except OperationFailure:
                return None


Documents = dict[str, dict[str, Any]]


def _now(creatures: Any) -> Timestamp:
    while True:
        try:
            time: Timestamp = creatures.database.client.admin.command("ping")["operationTime"]
        except AutoReconnect:
            continue
        return time


def _found(creatures: Any, time: Timestamp, asked: Mapping[str, Any]) -> Documents:
    command = {
        "find": creatures.name,
        "batchSize": 1000,
        **asked,
        "readConcern": {"level": "snapshot", "atClusterTime": time},
    }
    while True:
        try:
            batch = creatures.database.command(command)["cursor"]["firstBatch"]
        except AutoReconnect:
            continue  # an election
        return {json.dumps(document["_id"]): document for document in batch}


@contextmanager
def writing(
    creatures: Any, seed: int, drops: Drops, *, pause_seconds: float = 0, drop_share: float = 0.01
) -> Iterator[None]:
    """Threads that write to few documents: in and out of the filter, in transactions, also drop them all."""
    stopped = threading.Event()

    def write(number: int) -> None:
        chance = random.Random(seed + number)
        with creatures.database.client.start_session() as session:
            while not stopped.is_set():
                try:
                    if chance.random() < drop_share:
                        drops.drop(creatures)
                    else:
                        _write(creatures, number, chance, session)
                except PyMongoError:
                    pass  # a write conflict, an upsert that came second, an election, a drop
                stopped.wait(pause_seconds)

    with threads(write, 3, stopped):
        yield


@contextmanager
def threads(work: Callable[[int], None], count: int, stopped: threading.Event) -> Iterator[None]:
    """Run the work in threads, which get their numbers, until the context is left."""
    running = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in running:
            thread.join()


def _write(creatures: Any, number: int, chance: random.Random, session: Any) -> None:
    """Write once. `number` is the writer's."""
    id = chance.choice([*range(10), "1", "2"])
    what = chance.random()
    if what < 0.15:
        creatures.delete_one({"_id": id})
    elif what < 0.3:
        creatures.replace_one({"_id": id}, {"n": chance.randrange(4)}, upsert=True)
    elif what < 0.45:
        with session.start_transaction():
            for each in chance.sample(range(10), 3):
                change = {"$inc": {"n": chance.choice((-1, 1))}}
                creatures.update_one({"_id": each}, change, session=session)
    else:
        creatures.update_one({"_id": id}, {"$set": {"n": chance.randrange(4), "by": number}}, upsert=True)
