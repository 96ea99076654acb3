"""Serving those who are behind the history, from a source whose log is in memory."""

from __future__ import annotations

import asyncio
import gc
import math
import random
import re
import weakref
from collections.abc import AsyncIterator
from typing import Self
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brook.delivery.subscriber import State
from brook.event import Batch, Position
from brook.source import Source
from brook.subscription import Subscription
from tests.support.events import Counted, after, at, events, key
from tests.support.fakes import Client, Harness, Louder, until
from tests.support.logs import LogSource

# All events that these tests know, as a client gets them, and what else it gets.
EVENTS = b"".join(b"id: %06d\ndata: xxxxxxxxxx\n\n" % number for number in range(1, 10_001))
EVENT_BYTES = len(EVENTS) // 10_000
NOT_EVENTS = re.compile(rb"(?:id: t|retry: )\d+\n\n")


class Stage:
    """A log of which the history remembers only the end, and a replayer for the rest."""

    def __init__(
        self, length: int, remembered: int = 10, *, cursors: int = 4, batch: int = 100, **replay
    ) -> None:
        self.source = LogSource(events(1, length), batch)
        self.harness = Harness(self.source, cursors, replay)
        self.replayer = self.harness.replayer
        self.harness.start(length - remembered)
        # The history has objects of its own: what is counted in the log was rendered by a replay.
        self.harness.publish(*events(length - remembered + 1, length), checkpoint=self.source.head())
        self.length = length

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.replayer.close()
        assert self.source.open_now == 0

    def write(self, count: int = 1) -> list[Counted]:
        """Something happens; the live stream has not seen it yet."""
        happened = events(self.length + 1, self.length + count)
        self.length += count
        self.source.append(happened)
        return happened

    def feed(self, count: int = 1) -> None:
        """Something happens, and the live stream brings it."""
        self.write(count)
        self.harness.publish(*events(self.length - count + 1, self.length), checkpoint=self.source.head())

    def connect(self, since: Position, room: float = math.inf) -> Client:
        return self.harness.connect(since=since, room=room)

    def complete(self, client: Client, since: int) -> bool:
        """Whether a client has had everything after `since`, once and in order, and nothing else."""
        expected = EVENTS[since * EVENT_BYTES : self.length * EVENT_BYTES]
        return NOT_EVENTS.sub(b"", client.connection.received) == expected

    async def live(self, *clients: Client) -> None:
        await until(lambda: all(client.subscriber.state is State.LIVE for client in clients))


def resets(client: Client) -> list[str]:
    return [event.data for event in client.heard() if event.event == "reset"]


# -- from the log to the live tail -----------------------------------------------------------------


@pytest.mark.parametrize("since", [at(1), at(500), after(500), at(985)], ids=lambda position: position.id)
def test_client_from_before_the_history_gets_everything_and_goes_on_live(since):
    async def scenario() -> None:
        async with Stage(1000) as stage:
            client = stage.connect(since)
            await stage.live(client)
            assert stage.complete(client, int(since.key[:6]))
            stage.feed(3)
            assert stage.complete(client, int(since.key[:6]))
            assert client.subscriber.resumed
            await until(lambda: stage.source.open_now == 0)

    asyncio.run(scenario())


def test_herd_with_as_many_positions_as_clients_shares_a_handful_of_cursors():
    async def scenario() -> None:
        async with Stage(2000) as stage:
            positions = random.Random(7).choices(range(1, 1900), k=2000)
            clients = [stage.connect(at(number)) for number in positions]
            await stage.live(*clients)
            stage.feed()
            assert all(stage.complete(*pair) for pair in zip(clients, positions, strict=True))
            assert stage.source.open_most <= 4
            assert len(stage.source.opened) <= 8

    asyncio.run(scenario())


def test_herd_that_keeps_coming_never_opens_more_cursors_than_it_may():
    async def scenario() -> None:
        async with Stage(3000, cursors=2, batch=20) as stage:
            clients = []
            for number in range(300):
                clients.append((stage.connect(at(2900 - 9 * number)), 2900 - 9 * number))
                if number % 3 == 0:
                    await asyncio.sleep(0.001)
            await stage.live(*(client for client, _ in clients))
            assert all(stage.complete(*pair) for pair in clients)
            assert stage.source.open_most <= 2
            assert len(stage.source.opened) <= 60

    asyncio.run(scenario())


def test_event_is_rendered_once_however_many_positions_there_are_in_its_batch():
    async def scenario() -> None:
        async with Stage(1000, batch=1000) as stage:
            clients = [stage.connect(at(number)) for number in range(1, 901, 3)]
            await stage.live(*clients)
            assert max(event.renders for event in stage.source.log) == 1

    asyncio.run(scenario())


def test_late_comer_joins_a_cursor_that_is_just_passing():
    async def scenario() -> None:
        async with Stage(5000, cursors=1, batch=50) as stage:
            stage.source.stops_at = 1000
            first = stage.connect(at(1))
            await until(lambda: not stage.source.running.is_set())
            second = stage.connect(at(4500))
            stage.source.running.set()
            await stage.live(first, second)
            assert stage.complete(first, 1)
            assert stage.complete(second, 4500)
            assert stage.source.opened == [key(1)]

    asyncio.run(scenario())


@pytest.mark.parametrize("ahead", [False, True], ids=["live first", "replay first"])
def test_hand_over_has_no_gap_and_no_repeat_while_the_feed_goes_on(ahead):
    """Whichever of the two streams of one log is ahead at that moment, and however often they alternate."""

    async def scenario() -> None:
        async with Stage(2000, batch=30) as stage:
            clients = []
            for turn in range(300):
                happened = stage.write(3)
                if ahead:
                    # The cursor has read and delivered it before the live stream brings it.
                    for _ in range(10):
                        await asyncio.sleep(0)
                stage.harness.publish(
                    *events(int(happened[0].key), int(happened[-1].key)), checkpoint=stage.source.head()
                )
                if turn % 5 == 0 and turn < 250:
                    since = 1900 - turn
                    clients.append((stage.connect(at(since)), since))
                await asyncio.sleep(0.001)
            await stage.live(*(client for client, _ in clients))
            stage.feed()
            assert all(stage.complete(*pair) for pair in clients)

    asyncio.run(scenario())


def test_cursor_that_is_always_a_little_ahead_of_the_live_stream_hands_its_clients_over():
    """On a busy deployment the live stream has everybody to serve, and a replay has only a few."""

    async def scenario() -> None:
        async with Stage(500) as stage:
            happened = stage.write()
            client = stage.connect(at(100))
            for _ in range(50):
                await until(lambda: stage.complete(client, 100) or client.subscriber.state is State.LIVE)
                again = [Counted(event.id, event.data) for event in happened]
                stage.harness.publish(*again, checkpoint=stage.source.head())
                if client.subscriber.state is State.LIVE:
                    break
                happened = stage.write()
            assert client.subscriber.state is State.LIVE, "held by the cursor for as long as anything happens"
            assert stage.complete(client, 100)
            await until(lambda: stage.source.open_now == 0)

    asyncio.run(scenario())


# -- positions that cannot be resumed --------------------------------------------------------------


def test_id_that_never_was_is_told_apart_from_its_neighbours():
    async def scenario() -> None:
        async with Stage(1000) as stage:
            del stage.source.log[499]
            wrong = stage.connect(at(500))
            other = stage.connect(Position(key(600), "another deployment's"))
            right = stage.connect(at(499))
            await stage.live(wrong, other, right)
            assert resets(wrong) == [f'{{"reason":"invalid-id","since":"{key(500)}"}}']
            assert resets(other) == ['{"reason":"invalid-id","since":"another deployment\'s"}']
            assert right.data() == [key(number) for number in range(501, 1001)]
            stage.feed()
            assert wrong.data() == other.data() == ["", key(1001)]
            # It was told its new position before anything happened there.
            assert wrong.ids[0] == "t1000"

    asyncio.run(scenario())


def test_id_from_the_future_is_reset():
    async def scenario() -> None:
        async with Stage(1000) as stage:
            clients = [stage.connect(position) for position in (at(5000), after(6000))]
            await stage.live(*clients)
            assert [len(resets(client)) for client in clients] == [1, 1]
            assert resets(clients[0]) == [f'{{"reason":"invalid-id","since":"{key(5000)}"}}']

    asyncio.run(scenario())


def test_id_from_the_future_is_reset_though_another_client_has_a_good_one():
    """Else it would be kept waiting for ever, with a cursor of its own."""

    async def scenario() -> None:
        async with Stage(1000) as stage:
            good, bad = stage.connect(at(100)), stage.connect(at(5000))
            await stage.live(good, bad)
            assert stage.complete(good, 100)
            assert resets(bad) == [f'{{"reason":"invalid-id","since":"{key(5000)}"}}']
            await until(lambda: stage.source.open_now == 0)

    asyncio.run(scenario())


def test_lost_position_gets_one_reset_and_goes_on_live():
    async def scenario() -> None:
        async with Stage(1000) as stage:
            stage.source.lost = key(500)
            client = stage.connect(at(100))
            await stage.live(client)
            stage.feed()
            assert client.data() == ["", key(1001)]
            assert resets(client) == [f'{{"reason":"history-lost","since":"{key(100)}"}}']

    asyncio.run(scenario())


@pytest.mark.parametrize("lost", [10, 1500, 1960])
def test_thousands_of_lost_positions_cost_a_few_cursors_and_the_others_lose_nothing(lost):
    async def scenario() -> None:
        async with Stage(3000, batch=1000) as stage:
            stage.source.lost = key(lost)
            numbers = range(1, 2000)
            clients = [(stage.connect(at(number)), number) for number in numbers]
            await stage.live(*(client for client, _ in clients))
            stage.feed()
            for client, number in clients:
                if number < lost:
                    assert client.data() == ["", key(3001)]
                else:
                    assert stage.complete(client, number)
            assert stage.source.open_most <= 4
            assert len(stage.source.opened) <= 4 * math.log2(2000)

    asyncio.run(scenario())


@pytest.mark.parametrize("apart_seconds", [0, 0.001])
def test_lost_positions_cost_a_few_cursors_even_while_another_replay_goes_on(apart_seconds):
    """Also when workers look for the beginning of the log at once, which began one after the other."""

    async def scenario() -> None:
        # On a busy machine, turns by time would open further cursors.
        async with Stage(5000, batch=5, share_seconds=math.inf) as stage:
            long = stage.connect(at(1100))
            await until(lambda: long.data())
            stage.source.lost = key(1100)
            clients = []
            for number in range(1, 1000):
                clients.append(stage.connect(at(number)))
                if number in (1, 2, 3):
                    await asyncio.sleep(apart_seconds)
            await stage.live(long, *clients)
            assert stage.complete(long, 1100)
            assert {len(resets(client)) for client in clients} == {1}
            assert len(stage.source.opened) <= 4 * math.log2(1000)

    asyncio.run(scenario())


def test_log_that_is_forgotten_while_it_is_replayed_resets_its_reader():
    async def scenario() -> None:
        async with Stage(5000, batch=10) as stage:
            client = stage.connect(at(1))
            await until(lambda: len(client.data()) >= 100)
            stage.source.lost = key(4900)
            await stage.live(client)
            assert [event.event for event in client.heard()].count("reset") == 1
            assert client.heard()[-1].event == "reset"
            stage.feed()
            assert client.data()[-1] == key(5001)

    asyncio.run(scenario())


def test_source_without_a_log_resets_whoever_is_behind():
    class Forgetful(Source):
        async def events(self) -> AsyncIterator[Batch]:
            raise NotImplementedError
            yield Batch()

    async def scenario() -> None:
        harness = Harness(Forgetful())
        harness.publish(*events(5, 9))
        behind, covered = harness.connect(since=at(3)), harness.connect(since=at(6))
        await until(lambda: behind.subscriber.state is State.LIVE)
        harness.publish(*events(10, 10))
        assert behind.data() == ["", key(10)]
        assert covered.data() == [key(7), key(8), key(9), key(10)]
        await harness.replayer.close()

    asyncio.run(scenario())


# -- slow and leaving readers ----------------------------------------------------------------------


def test_reader_that_takes_nothing_does_not_hold_back_the_others_and_loses_nothing():
    async def scenario() -> None:
        async with Stage(9000, batch=500) as stage:
            slow = stage.connect(at(10), room=20)
            fast = [stage.connect(at(10 + number)) for number in range(20)]
            await stage.live(*fast)
            assert all(stage.complete(client, 10 + number) for number, client in enumerate(fast))
            assert slow.subscriber.state is not State.LIVE
            assert slow.subscriber.queued_bytes < 2 * 500 * EVENT_BYTES, "fed though it takes nothing"
            stage.feed(5)
            async with asyncio.timeout(20):
                while slow.subscriber.state is not State.LIVE:
                    slow.drain(5000)
                    await asyncio.sleep(0.001)
            slow.drain_slowly()
            assert stage.complete(slow, 10)

    asyncio.run(scenario())


def test_replay_stops_when_its_readers_have_left():
    async def scenario() -> None:
        async with Stage(100_000, batch=1) as stage:
            clients = [stage.connect(at(number)) for number in range(1, 10)]
            await until(lambda: clients[0].data())
            for client in clients:
                stage.harness.list.remove(client.subscriber)
            await until(lambda: stage.source.open_now == 0)

    asyncio.run(scenario())


def test_nothing_is_left_of_those_who_left_while_the_source_says_nothing():
    """A database that is away for an hour: clients come, wait, leave and come again."""

    async def scenario() -> None:
        async with Stage(1000, cursors=1) as stage:
            stage.source.running.clear()
            first = stage.connect(at(1))
            await until(lambda: stage.source.opened)

            def crowd() -> list[weakref.ref[object]]:
                clients = [stage.connect(at(number)) for number in range(1, 200)]
                for client in clients:
                    stage.harness.list.remove(client.subscriber)
                return [weakref.ref(client.subscriber) for client in clients]

            left = crowd()
            gc.collect()
            assert sum(reference() is not None for reference in left) == 0
            stage.source.running.set()
            await stage.live(first)
            assert stage.complete(first, 1)

    asyncio.run(scenario())


def test_one_who_comes_in_the_very_moment_a_worker_ends_is_served():
    async def scenario() -> None:
        async with Stage(1000, cursors=1) as stage:
            loop = asyncio.get_running_loop()
            late: list[Client] = []
            first = stage.connect(at(900))
            send = first.connection.send

            def send_and_let_another_one_in(data):
                # What the first is sent at the hand-over: its worker has nothing left to do.
                if not late and b"id: t1000" in bytes(data):
                    late.append(None)
                    loop.call_soon(lambda: late.append(stage.connect(at(1))))
                return send(data)

            first.connection.send = send_and_let_another_one_in
            stage.harness.publish(checkpoint=after(1000))
            await stage.live(first)
            await until(lambda: len(late) == 2)
            await stage.live(late[1])
            assert stage.complete(late[1], 1)

    asyncio.run(scenario())


# -- failures --------------------------------------------------------------------------------------


def test_failure_in_the_source_is_logged_and_cuts_off_only_its_readers(caplog):
    async def scenario() -> None:
        async with Stage(1000) as stage:
            live = stage.harness.connect()
            stage.source.error = RuntimeError("a bug in the source")
            clients = [stage.connect(at(number)) for number in range(1, 20)]
            await until(lambda: all(client.connection.closed for client in clients))
            assert len(stage.harness.list) == 1
            assert "a bug in the source" in caplog.text

            # They come back, and by then it works again.
            stage.source.error = None
            again = stage.connect(at(1))
            await stage.live(again)
            stage.feed()
            assert stage.complete(again, 1)
            assert live.data() == [key(1001)]

    asyncio.run(scenario())


def test_worker_that_fails_between_replays_leaves_its_place_to_the_next(caplog):
    async def scenario() -> None:
        async with Stage(1000, cursors=1) as stage:
            with mock.patch.object(stage.replayer, "_take_next", side_effect=RuntimeError("a bug of ours")):
                client = stage.connect(at(1))
                await until(lambda: client.connection.closed)
            assert "a bug of ours" in caplog.text
            again = stage.connect(at(1))
            await stage.live(again)
            assert stage.complete(again, 1)

    asyncio.run(scenario())


def test_close_stops_reading_whoever_waits():
    async def scenario() -> None:
        async with Stage(1000, cursors=2) as stage:
            stage.source.running.clear()
            for number in range(1, 5):
                stage.connect(at(number))
                await until(lambda: stage.source.opened)
            await stage.replayer.close()
            assert stage.source.open_now == 0
            others = asyncio.all_tasks() - {asyncio.current_task()}
            assert not others

    asyncio.run(scenario())


# -- everything at once ----------------------------------------------------------------------------


@settings(deadline=None, max_examples=8)
@given(
    seed=st.integers(0, 10**6),
    batch=st.integers(1, 60),
    cursors=st.integers(1, 3),
    lost=st.integers(0, 150),
)
def test_every_reader_gets_its_own_rest_whoever_else_is_served(seed, batch, cursors, lost):
    chance = random.Random(seed)

    async def scenario() -> None:
        async with Stage(300, 20, cursors=cursors, batch=batch) as stage:
            stage.source.lost = key(lost)
            readers = []
            for _ in range(20):
                since = chance.randrange(1, 300)
                position = chance.choice([at, after])(since)
                readers.append((stage.connect(position, chance.choice([20, math.inf])), since))
                if chance.random() < 0.3:
                    stage.feed(chance.randrange(1, 4))
                if chance.random() < 0.3:
                    await asyncio.sleep(chance.choice([0, 0, 0.06]))
            async with asyncio.timeout(30):
                while any(client.subscriber.state is not State.LIVE for client, _ in readers):
                    for client, _ in readers:
                        client.drain(chance.choice([0, 100, 10**6]))
                    await asyncio.sleep(0.001)
            stage.feed()
            for client, since in readers:
                client.drain_slowly()
                if resets(client):
                    assert since < lost
                    assert client.data() == ["", *client.data()[1:]]
                    first = int(client.data()[1])
                    expected = [key(number) for number in range(first, stage.length + 1)]
                    assert client.data()[1:] == expected
                else:
                    assert stage.complete(client, since)
            assert stage.source.open_most <= cursors

    asyncio.run(scenario())


def test_subscriptions_that_differ_get_their_own_from_one_cursor():
    async def scenario() -> None:
        async with Stage(500) as stage:
            clients = [
                stage.harness.connect(since=at(7), subscription=Subscription()),
                stage.harness.connect(since=at(7), subscription=Other()),
            ]
            await stage.live(*clients)
            assert all(stage.complete(client, 7) for client in clients)
            assert stage.source.opened == [key(7)]
            assert stage.source.log[100].renders == 2

    asyncio.run(scenario())


class Other(Subscription):
    """Another thing that a client may ask for."""

    __slots__ = ()


# -- near before far -------------------------------------------------------------------------------


def test_near_position_is_served_before_a_far_replay_has_ended():
    async def scenario() -> None:
        async with Stage(5000, cursors=1, share_seconds=0) as stage:
            stage.source.pace = 10
            far = [stage.connect(at(number + 1)) for number in range(12)]
            await until(lambda: stage.source.open_now == 1)
            near = stage.connect(at(4900))
            await stage.live(near)
            assert stage.complete(near, 4900)
            assert {client.subscriber.state for client in far} == {State.REPLAYING}
            await stage.live(*far)
            assert all(stage.complete(client, number + 1) for number, client in enumerate(far))
            assert stage.source.open_most == 1

    asyncio.run(scenario())


def test_far_replay_goes_on_however_many_near_positions_come():
    async def scenario() -> None:
        async with Stage(5000, cursors=1, share_seconds=0) as stage:
            stage.source.pace = 10
            far = stage.connect(at(1))
            served = 0
            while far.subscriber.state is not State.LIVE:
                near = stage.connect(at(stage.length - 100))
                await stage.live(near)
                served += 1
            assert served > 1
            assert stage.complete(far, 1)

    asyncio.run(scenario())


def test_large_batch_of_a_replay_leaves_the_loop_its_turns():
    async def scenario() -> None:
        stage = Stage(100)
        stage.source.log[49:51] = events(50, 51, 2_000_000)
        async with stage:
            clients = [
                stage.harness.connect(since=at(45), subscription=Louder(volume=volume)) for volume in range(5)
            ]
            most = 0
            while any(client.subscriber.state is not State.LIVE for client in clients):
                rendered = sum(event.renders for event in stage.source.log[49:51])
                await asyncio.sleep(0)
                now = sum(event.renders for event in stage.source.log[49:51])
                most = max(most, now - rendered)
            assert most == 2, "all subscriptions were rendered in one turn"
            assert all(client.data()[-1] == key(100) for client in clients)

    asyncio.run(scenario())
