"""What every source promises: the demo, one in memory, and MongoDB."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from brook.errors import CannotResume, InvalidId, InvalidParameter, UnknownPosition, UnknownStream
from brook.event import Batch, Event, Position
from brook.namespaces import Namespaces
from brook.parameters import CollectionStreams
from brook.settings import Settings
from brook.source import Source
from brook.streams import SingleStream, Streams
from brook.subscription import Subscription
from sources.demo import DemoSource
from sources.mongo import MongoSource
from tests.support.events import events as numbered_events
from tests.support.events import key
from tests.support.logs import NumberedLog
from tests.support.raw_client import Parser

SECONDS = 60


class Stage:
    """A source, and what makes something happen in it."""

    has_log = True
    """Whether it can be read again from an id."""
    future = ""
    """An id that is well-formed, and later than everything."""
    garbage = ("", "rubbish", "\0", "x" * 10_000)

    source: Source
    streams: Streams = SingleStream()

    def happen(self, count: int) -> None:
        raise NotImplementedError

    def wish(self) -> Subscription:
        return self.streams.subscription(None, {})


class DemoStage(Stage):
    has_log = False

    def __init__(self) -> None:
        self.source = DemoSource(((0.0, "line-1", "Line 1"),))
        self.streams = SingleStream(private=True)

    def happen(self, count: int) -> None:
        for _ in range(count):
            self.source.joined(self.wish(), None)


class LiveLog(NumberedLog):
    """The log in memory, followed from where it was opened."""

    async def open(self) -> None:
        self.read = len(self.log)

    async def events(self) -> AsyncIterator[Batch]:
        while True:
            grown = self.grown
            if fresh := self.log[self.read :]:
                self.read = len(self.log)
                yield Batch(tuple(fresh), self.head())
            else:
                await grown.wait()


class LogStage(Stage):
    future = key(999_999)

    def __init__(self) -> None:
        self.source = LiveLog(numbered_events(1, 10))

    def happen(self, count: int) -> None:
        last = int(self.source.log[-1].key)
        self.source.append(numbered_events(last + 1, last + count))


class MongoStage(Stage):
    # A resume token of the year 2106.
    future = "82FFFFFFFF000000012B022C0100296E5A1004AB46645F696400645BFEF740419AEED958BBFA1B0004"

    def __init__(self, uri: str, database: Any) -> None:
        settings = Settings(database=database.name, warm_up_seconds=5)
        self.source = MongoSource(uri, settings)
        self.streams = CollectionStreams(Namespaces.of(settings))
        self.database = database

    def happen(self, count: int) -> None:
        self.database.creatures.insert_many([{"number": number} for number in range(count)])


MONGO = pytest.param("mongo", marks=pytest.mark.mongod)
with_a_log = pytest.mark.parametrize("stage", ["memory", MONGO], indirect=True)


@pytest.fixture(params=["demo", "memory", MONGO])
def stage(request) -> Iterator[Stage]:
    match request.param:
        case "demo":
            yield DemoStage()
        case "memory":
            yield LogStage()
        case "mongo":
            database = request.getfixturevalue("database")
            sandbox = request.getfixturevalue("sandbox")
            yield MongoStage(sandbox.uri, database)


@asynccontextmanager
async def opened(stage: Stage) -> AsyncIterator[AsyncGenerator[Batch]]:
    """What happens from now on: the past is over."""
    await stage.source.open()
    try:
        async for batch in stage.source.past():
            assert isinstance(batch, Batch)
        async with aclosing(stage.source.events()) as batches:
            yield batches
    finally:
        await stage.source.close()


async def take(batches: AsyncIterator[Batch], count: int) -> list[Event]:
    """The next `count` events, or a few more if they came together."""
    taken: list[Event] = []
    async with asyncio.timeout(SECONDS):
        async for batch in batches:
            taken += batch.events
            if len(taken) >= count:
                return taken
    raise AssertionError("the source ended")


async def begun(stage: Stage, batches: AsyncIterator[Batch]) -> asyncio.Future[list[Event]]:
    """Wait for the next three events, which are still to happen."""
    taking = asyncio.ensure_future(take(batches, 3))
    await asyncio.sleep(0)
    return taking


def test_what_happens_comes_once_and_in_order_with_ids_that_it_knows_again(stage):
    async def scenario() -> None:
        async with opened(stage) as batches:
            taking = await begun(stage, batches)
            stage.happen(3)
            happened = await taking
            assert len(happened) == 3
            if stage.has_log:
                keys = [event.key for event in happened]
                assert keys == sorted(set(keys))
            for event in happened:
                position = stage.source.position(event.id)
                assert (position.id, position.exact) == (event.id, True)
                assert position.key <= event.key <= position.until

    asyncio.run(scenario())


def test_every_event_is_a_frame_that_any_reader_understands(stage):
    async def scenario() -> None:
        async with opened(stage) as batches:
            taking = await begun(stage, batches)
            stage.happen(3)
            for event in await taking:
                frame = event.decode().frame(stage.wish())
                [received] = Parser().feed(frame)
                assert received.id == event.id
                assert received.data
                assert event.size >= len(event.id)

    asyncio.run(scenario())


@with_a_log
def test_what_happened_before_now_does_not_come_again(stage):
    async def scenario() -> None:
        stage.happen(2)
        async with opened(stage) as batches:
            taking = await begun(stage, batches)
            stage.happen(3)
            assert len(await taking) == 3

    asyncio.run(scenario())


def test_past_ends_and_is_in_order(stage):
    async def scenario() -> None:
        if not isinstance(stage, DemoStage):  # its script is played to those who have joined
            stage.happen(2)
        await stage.source.open()
        try:
            async with asyncio.timeout(SECONDS):
                past = [batch async for batch in stage.source.past()]
        finally:
            await stage.source.close()
        keys = [event.key for batch in past for event in batch.events]
        assert keys == sorted(set(keys))
        assert bool(past) == isinstance(stage, MongoStage), "only its log can be read before it is followed"
        # The history must know where it begins, or it would claim to cover what it has never seen.
        if past:
            assert len(keys) == 2
            assert past[0].restarted
            assert past[0].checkpoint is not None
            assert all(key > past[0].checkpoint.key for key in keys)

    asyncio.run(scenario())


@with_a_log
def test_checkpoint_is_a_promise_that_nothing_before_it_follows(stage):
    async def scenario() -> None:
        highest = ""
        seen = 0
        async with opened(stage) as batches:
            stage.happen(1)
            async with asyncio.timeout(SECONDS):
                async for batch in batches:
                    assert all(event.key > highest for event in batch.events)
                    if batch.checkpoint is not None:
                        assert batch.checkpoint.key >= highest
                        assert stage.source.position(batch.checkpoint.id) == batch.checkpoint
                        assert not stage.source.position(batch.checkpoint.id).exact
                        highest = batch.checkpoint.key
                    seen += len(batch.events)
                    if seen >= 10 and highest:
                        break
                    if batch.events:
                        stage.happen(3)

    asyncio.run(scenario())


@pytest.mark.parametrize("number", range(4))
def test_id_that_it_never_gave_out_is_refused(stage, number):
    with pytest.raises(InvalidId) as caught:
        stage.source.position(stage.garbage[number])
    assert "\n" not in str(caught.value)


def test_stream_and_parameters_that_it_does_not_have_are_refused(stage):
    with pytest.raises(UnknownStream):
        stage.streams.subscription("nobody.named.this" if stage.has_log else "x", {})
    with pytest.raises(InvalidParameter, match="sinse"):
        stage.streams.subscription(None, {"sinse": ["x"]})
    assert isinstance(stage.wish(), Subscription)


def test_replay_begins_with_the_event_it_is_asked_for_and_goes_on_into_the_present(stage):
    async def scenario() -> None:
        async with opened(stage) as batches:
            taking = await begun(stage, batches)
            stage.happen(3)
            first, *rest = await taking
            position = stage.source.position(first.id)
            if not stage.has_log:
                with pytest.raises(CannotResume):
                    await anext(stage.source.replay(position))
                return
            async with aclosing(stage.source.replay(position)) as replay:
                replayed = await take(replay, 3)
                assert [event.id for event in replayed] == [first.id, *(event.id for event in rest)]
                stage.happen(2)
                assert len(await take(replay, 2)) == 2

    asyncio.run(scenario())


@with_a_log
def test_replay_from_a_moment_begins_after_it(stage):
    async def scenario() -> None:
        async with opened(stage) as batches:
            stage.happen(1)
            last = ""
            async with asyncio.timeout(SECONDS):
                async for batch in batches:
                    last = max([last, *(event.key for event in batch.events)])
                    moment = batch.checkpoint
                    if last and moment is not None and moment.key > last:
                        break
            taking = await begun(stage, batches)
            stage.happen(3)
            expected = [event.id for event in await taking]
            async with aclosing(stage.source.replay(moment)) as replay:
                assert [event.id for event in await take(replay, 3)] == expected

    asyncio.run(scenario())


@with_a_log
def test_replay_from_the_future_says_so(stage):
    async def scenario() -> None:
        future = stage.source.position(stage.future)
        async with opened(stage), aclosing(stage.source.replay(future)) as replay:
            with pytest.raises(UnknownPosition):
                await asyncio.wait_for(anext(replay), SECONDS)

    asyncio.run(scenario())


def test_it_can_be_closed_before_it_was_opened(stage):
    asyncio.run(stage.source.close())


@pytest.mark.parametrize("stage", [MONGO], indirect=True)
def test_it_is_well_unless_it_says_otherwise(stage):
    async def scenario() -> None:
        async with opened(stage):
            assert stage.source.interruption is None

    asyncio.run(scenario())


def test_smallest_source_that_anybody_could_write_is_complete():
    """Everything but `events` has an answer of its own."""

    class Ticker(Source):
        async def events(self) -> AsyncIterator[Batch]:
            yield Batch((Event("1", "tick"),))

    async def scenario() -> None:
        source = Ticker()
        await source.open()
        assert [batch async for batch in source.past()] == []
        assert source.position("1") == Position("1", "1")
        source.joined(Subscription(), None)
        with pytest.raises(CannotResume):
            await anext(source.replay(Position("1", "1")))
        await source.close()

    asyncio.run(scenario())
