"""A checkpoint promises everything up to its time: no event of that time or before it follows."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import bson
import pymongo
import pytest
from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import WriteConcern
from pymongo.errors import PyMongoError

from brook.changes import resume_token
from brook.changes.change import Change
from brook.event import Batch, Position
from brook.namespaces import Namespaces
from sources.mongo.cursor import Cursor
from sources.mongo.tail import Deployment, Tail
from sources.sandbox import Sandbox

IMPATIENT = "&connectTimeoutMS=1000&serverSelectionTimeoutMS=2000&heartbeatFrequencyMS=500"
LAST = "last"


def operation_time(client: Any) -> tuple[int, int]:
    """The time of the last entry in the log."""
    time = client.admin.command("ping")["operationTime"]
    return time.time, time.inc


@asynccontextmanager
async def opened(uri: str, start: tuple[int, int]) -> AsyncIterator[Tail]:
    client: Any = AsyncIOMotorClient(uri, document_class=RawBSONDocument)
    with ThreadPoolExecutor(1) as executor:
        deployment = Deployment(client, executor, Namespaces("pond", ["creatures"]), pre_images=True)
        tail = Tail(deployment, start=start)
        try:
            yield tail
        finally:
            await tail.close()
            client.close()


@contextmanager
def writing(uri: str, seed: int) -> Iterator[set[int]]:
    """Threads that insert, alone and in transactions, also where nobody looks. Yields the acknowledged."""
    stopped = threading.Event()
    written: set[int] = set()

    def write(number: int) -> None:
        chance = random.Random(seed + number)
        following = iter(range(number * 1_000_000, (number + 1) * 1_000_000))
        with pymongo.MongoClient[Any](uri) as client, client.start_session() as session:
            pond = client.get_database("pond", write_concern=WriteConcern("majority"))
            while not stopped.is_set():
                ids = [next(following) for _ in range(chance.randrange(1, 6))]
                with contextlib.suppress(PyMongoError):  # an election
                    match chance.randrange(4):
                        case 0:
                            pond.creatures.insert_one({"_id": ids[0]})
                            written.add(ids[0])
                        case 1:
                            with session.start_transaction(write_concern=WriteConcern("majority")):
                                client.pond.creatures.insert_many(
                                    [{"_id": id} for id in ids], session=session
                                )
                            written.update(ids)
                        case 2:
                            client.pond.others.insert_one({})
                        case 3:
                            client.elsewhere.others.insert_one({})
                stopped.wait(chance.random() * 0.05)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield written
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


class Reader:
    """Reads a tail, and compares each event with the checkpoint before it."""

    def __init__(self, tail: Tail, chance: random.Random) -> None:
        self.ids: set[Any] = set()
        self.promised: Position | None = None
        self._tail = tail
        self._chance = chance

    async def read(self) -> None:
        """Read a batch; at times, lose the cursor or the place before."""
        if self._chance.random() < 0.1:
            await self._tail.close()
            if self._chance.random() < 0.3:
                self._tail.rewind()
        try:
            self._take(await self._tail.read())
        except PyMongoError:
            await self._tail.close()

    def _take(self, batch: Batch) -> None:
        for event in batch.events:
            assert isinstance(event, Change)
            assert self.promised is None or event.key > self.promised.key, (self.promised, event.key)
            self.ids.add(bson.decode(event.raw)["documentKey"]["_id"])
        if batch.checkpoint is not None:
            assert self.promised is None or batch.checkpoint >= self.promised
            self.promised = batch.checkpoint


def in_small_replies(monkeypatch: pytest.MonkeyPatch, chance: random.Random) -> None:
    """Let replies end in the middle of a transaction."""
    read = Cursor.read

    async def read_some(cursor: Cursor, batch_size: int | None = None, *more: Any) -> Any:
        return await read(cursor, chance.choice((1, 2, 3, batch_size)), *more)

    monkeypatch.setattr(Cursor, "read", read_some)


@pytest.mark.mongod
def test_no_event_follows_a_checkpoint_of_its_time(monkeypatch):
    """Under random writes, while cursors are lost and the primary steps down."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    in_small_replies(monkeypatch, chance)

    async def scenario(mongo: Sandbox, client: Any) -> None:
        async with opened(mongo.uri + IMPATIENT, operation_time(client)) as tail, asyncio.timeout(120):
            reader = Reader(tail, chance)
            with writing(mongo.uri, seed) as written:
                for goal in (150, 300):
                    while len(reader.ids) < goal:
                        await reader.read()
                    if goal == 150:
                        await asyncio.to_thread(step_down, mongo)
            client.pond.creatures.insert_one({"_id": LAST})
            while LAST not in reader.ids:
                await reader.read()
            assert written <= reader.ids

    with Sandbox(3) as mongo, pymongo.MongoClient[Any](mongo.uri) as client:
        asyncio.run(scenario(mongo, client))


def step_down(mongo: Sandbox) -> None:
    with mongo.primary().client() as client:
        client.admin.command("replSetStepDown", 1, secondaryCatchUpPeriodSecs=1)
    mongo.primary()


@pytest.mark.mongod
def test_checkpoint_reaches_the_last_write_before_another_one_comes():
    """Also a write to a collection that nobody looks at. MongoDB itself notes something after ten seconds."""

    async def scenario(uri: str, client: Any) -> bool:
        async with opened(uri, operation_time(client)) as tail:
            client.elsewhere.others.insert_one({})
            time = operation_time(client)
            while (checkpoint := (await tail.read()).checkpoint) is None or checkpoint.key < wanted(time):
                pass
            assert checkpoint.key == wanted(time) or operation_time(client) > time
            return operation_time(client) == time

    def wanted(time: tuple[int, int]) -> str:
        return resume_token.checkpoint(time).key

    with Sandbox() as mongo, pymongo.MongoClient[Any](mongo.uri) as client:
        # The note may come just then, though hardly three times.
        assert any(asyncio.run(scenario(mongo.uri, client)) for _ in range(3))
