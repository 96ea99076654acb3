"""The list of active connections, with connections that are as busy as a test wants them."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
import weakref

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from brook.delivery.groups import Group
from brook.delivery.subscriber import WRITE_BYTES, CloseReason, State
from brook.event import Batch, Event, Position, Reset, ResetReason
from brook.subscription import Subscription
from tests.support.events import Counted, after, at, events, key
from tests.support.fakes import BARE, CHUNKED, Client, Harness, Louder, dechunk, until
from tests.support.raw_client import Parser


@pytest.fixture
def harness() -> Harness:
    harness = Harness()
    harness.start()
    return harness


class Quiet(Event):
    """An event that only some want."""

    __slots__ = ()

    def matches(self, subscription: Subscription) -> bool:
        return isinstance(subscription, Louder)


# -- the opening -----------------------------------------------------------------------------------


def test_opening_is_the_retry_and_the_position_in_one_write(harness):
    client = harness.connect()
    assert client.connection.received == b"retry: 3000\n\nid: t0\n\n"
    assert len(client.connection.sent) == 1


def test_opening_without_a_known_position_is_the_retry_alone():
    assert Harness().connect().connection.received == b"retry: 3000\n\n"


def test_opening_of_one_who_is_played_to_alone_has_no_position(harness):
    client = harness.connect(subscription=Subscription(recipient=1))
    assert client.connection.received == b"retry: 3000\n\n"


def test_one_who_wants_no_blocks_without_data_gets_comments_instead(harness):
    """Some readers take such a block for an empty event."""

    async def scenario() -> None:
        reset = Reset(ResetReason.INVALID_ID, id="t1", since="x")
        client = harness.connect(subscription=Subscription(checkpoints=False), reset=reset)
        harness.publish(checkpoint=after(7))
        await keeping(harness, 60)
        harness.publish(*events(8, 8))
        assert client.connection.received == (
            b':\n\nid\nevent: reset\ndata: {"reason":"invalid-id","since":"x"}\n\n'
            b":\n\nid: 000008\ndata: xxxxxxxxxx\n\n"
        )

    asyncio.run(scenario())


def test_opening_has_the_configured_retry():
    assert Harness(retry_ms=17).connect().connection.received == b"retry: 17\n\n"


def test_reset_comes_after_the_retry_and_before_the_position(harness):
    client = harness.connect(reset=Reset(ResetReason.INVALID_ID, since="rubbish"))
    assert client.connection.received == (
        b'retry: 3000\n\nid\nevent: reset\ndata: {"reason":"invalid-id","since":"rubbish"}\n\nid: t0\n\n'
    )
    harness.publish(*events(1, 1))
    assert client.data() == ["", key(1)]


# -- publishing ------------------------------------------------------------------------------------


def test_batch_is_rendered_once_and_written_once_whoever_many_listen(harness):
    clients = [harness.connect() for _ in range(100)]
    for client in clients:
        client.connection.sent.clear()
    batch = events(1, 50)
    harness.publish(*batch)
    assert {event.renders for event in batch} == {1}
    assert {len(client.connection.sent) for client in clients} == {1}
    assert len({id(client.connection.sent[0]) for client in clients}) == 1, "not the same bytes object"
    assert clients[0].data() == [key(number) for number in range(1, 51)]


def test_batch_is_rendered_once_for_each_subscription_however_it_is_framed(harness):
    """A framing is a client's way of reading, not something that it asked for."""
    clients = [harness.connect(framing=framing) for framing in (BARE, CHUNKED) for _ in range(10)]
    batch = events(1, 5)
    harness.publish(*batch)
    assert {event.renders for event in batch} == {1}
    assert len({id(client.connection.sent[-1]) for client in clients}) == 2


def test_different_subscriptions_get_their_own(harness):
    quiet, loud = harness.connect(), harness.connect(subscription=Louder())
    counted = Counted(key(2))
    harness.publish(Quiet(key(1)), counted, Quiet(key(3)))
    assert quiet.data() == [key(2)]
    assert loud.data() == [key(1), key(2), key(3)]
    assert counted.renders == 2


def test_nothing_is_written_to_those_who_want_nothing_of_a_batch(harness):
    client = harness.connect()
    client.connection.sent.clear()
    harness.publish(Quiet(key(1)))
    harness.publish(checkpoint=after(1))
    assert client.connection.sent == []


def test_addressed_batch_goes_to_its_recipient_alone_and_is_not_remembered(harness):
    everyone = harness.connect()
    first, second = (harness.connect(subscription=Subscription(recipient=number)) for number in (1, 2))
    harness.publish(Event("demo-1", "Sending 1"), recipient=1)
    assert (everyone.data(), first.data(), second.data()) == ([], ["demo-1"], [])
    harness.publish(*events(1, 1))
    assert (everyone.data(), first.data()) == ([key(1)], ["demo-1"])
    assert len(harness.history) == 1
    harness.publish(Event("demo-2", "Sending 2"), recipient=3)


def test_resumed_recipient_is_not_sent_the_history(harness):
    harness.publish(*events(1, 5))
    client = harness.connect(since=at(2), subscription=Subscription(recipient=1))
    assert client.connection.received == b"retry: 3000\n\n"


# -- busy connections ------------------------------------------------------------------------------


def test_busy_connection_gets_everything_in_order_once_it_has_room(harness):
    busy, idle = harness.connect(), harness.connect()
    busy.connection.room = 5
    for number in range(1, 101):
        harness.publish(*events(number, number))
    assert idle.data() == [key(number) for number in range(1, 101)]
    assert len(busy.data()) < 2
    busy.drain_slowly()
    assert busy.data() == idle.data()


@pytest.mark.parametrize("room", [0, 1, 1000, WRITE_BYTES, 3 * WRITE_BYTES, float("inf")])
def test_queue_longer_than_one_write_goes_out_whole_and_in_order(harness, room):
    """A socket that suddenly takes a whole piece at once reports nothing: the next one must follow."""
    client = harness.connect()
    client.connection.room = 5
    for number in range(1, 41):
        harness.publish(*events(number, number, 20_000))
    client.drain(room)
    harness.publish(*events(41, 41, 20_000))
    client.drain_slowly(room)
    assert client.data() == [key(number) for number in range(1, 42)]


def test_event_larger_than_the_queue_bound_reaches_one_who_takes_it_slowly(harness):
    client = harness.connect()
    client.connection.room = 5
    harness.publish(*events(1, 1, 3 * harness.settings.queue_max_bytes))
    client.drain_slowly(1000)
    assert client.data() == [key(1)]
    assert not client.connection.closed


def test_over_its_bound_a_subscriber_is_told_and_disconnected_and_the_others_are_not():
    harness = Harness(queue_max_bytes=10_000, retry_ms=1000)
    harness.start()
    slow, fast = harness.connect(), harness.connect()
    slow.connection.room = 0
    for number in range(1, 51):
        harness.publish(*events(number, number, 1000))
        assert slow.subscriber.queued_bytes <= 10_000 + 2000
    assert fast.data() == [key(number) for number in range(1, 51)]
    slow.drain_slowly()
    *heard, bye = slow.heard()
    assert [event.id for event in heard] == [key(number) for number in range(1, len(heard) + 1)]
    assert (bye.event, bye.data) == ("bye", '{"reason":"slow-consumer"}')
    assert 500 <= slow.parser.retry <= 1500
    assert slow.connection.closed
    assert len(harness.list) == 2
    harness.list.remove(slow.subscriber)
    assert len(harness.list) == 1

    # It resumes without loss by the last id that it got.
    again = harness.connect(since=at(len(heard)))
    assert again.data() == [key(number) for number in range(len(heard) + 1, 51)]


def test_bound_counts_what_waits_and_not_what_went_out():
    harness = Harness(queue_max_bytes=10_000)
    harness.start()
    client = harness.connect()
    for number in range(1, 200):
        client.connection.room = 0
        harness.publish(*events(number, number, 1000))
        harness.publish(*events(1000 + number, 1000 + number, 1000))
        client.drain_slowly()
    assert not client.connection.closed
    assert client.subscriber.queued_bytes == 0
    assert len(client.data()) == 398


@hypothesis_settings(deadline=None)
@given(
    script=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([10, 900, 30_000, 100_000])), min_size=1, max_size=25
    ),
    rooms=st.lists(st.integers(0, 200_000), min_size=1, max_size=5),
)
def test_body_is_whole_and_in_order_wherever_a_slow_consumer_is_cut(script, rooms):
    """A client that would read half a chunk would take the goodbye for data."""
    harness = Harness(queue_max_bytes=50_000)
    harness.start()
    client = harness.connect(framing=CHUNKED)
    client.connection.room = rooms[0]
    number = 0
    for drains, size in script:
        number += 1
        harness.publish(*events(number, number, size))
        for turn in range(drains):
            client.drain(rooms[turn % len(rooms)])
    client.drain_slowly(rooms[-1])
    content, ended = dechunk(client.connection.received)
    heard = [event for event in Parser().feed(content) if event.event == "message"]
    assert [event.id for event in heard] == [key(n) for n in range(1, len(heard) + 1)]
    assert ended == client.connection.closed
    assert ended == (client.subscriber.state is State.CLOSING)
    if not ended:
        assert len(heard) == number


# -- resuming --------------------------------------------------------------------------------------


def test_client_that_comes_back_gets_what_it_missed_and_then_what_comes(harness):
    harness.publish(*events(1, 5), checkpoint=after(5))
    client = harness.connect(since=at(3))
    assert client.connection.received.startswith(b"retry: 3000\n\nid: 000004\n")
    harness.publish(*events(6, 7))
    assert client.data() == [key(4), key(5), key(6), key(7)]
    assert client.subscriber.resumed


def test_client_that_missed_nothing_gets_the_position_if_it_is_ahead_of_its_own(harness):
    harness.publish(*events(1, 5), checkpoint=after(5))
    client = harness.connect(since=at(5))
    assert client.connection.received == b"retry: 3000\n\nid: t5\n\n"
    client = harness.connect(since=after(5))
    assert client.connection.received == b"retry: 3000\n\n"


def test_checkpoint_that_is_behind_the_last_event_is_not_sent_after_it(harness):
    harness.publish(*events(1, 5), checkpoint=after(3))
    client = harness.connect(since=at(4))
    assert client.connection.received == b"retry: 3000\n\nid: 000005\ndata: xxxxxxxxxx\n\n"


@pytest.mark.parametrize("since", [at(0), at(3), Position(key(4), "another"), after(9)], ids=lambda p: p.id)
def test_position_that_the_history_does_not_cover_is_handed_on_with_its_stream_open(since):
    harness = Harness()
    harness.start(3)
    harness.publish(*events(4, 6), checkpoint=after(6))
    client = harness.connect(since=since)
    assert client.connection.received == b"retry: 3000\n\n"
    assert harness.behind == [client.subscriber]
    assert client.subscriber.state is State.REPLAYING
    harness.publish(*events(7, 7))
    assert client.data() == [], "what is live would come before what was missed"


def test_reset_of_one_whose_position_is_lost_goes_on_live(harness):
    client = harness.connect(since=Position("lost", "lost"))
    harness.publish(*events(1, 1), checkpoint=after(1))
    harness.list.take_back(client.subscriber, Reset(ResetReason.HISTORY_LOST, since="lost"))
    harness.publish(*events(2, 2))
    assert client.connection.received == (
        b'retry: 3000\n\nid\nevent: reset\ndata: {"reason":"history-lost","since":"lost"}\n\n'
        b"id: t1\n\nid: 000002\ndata: xxxxxxxxxx\n\n"
    )


def test_catching_up_goes_at_the_pace_of_the_socket(harness):
    harness.publish(*events(1, 5000, 1000))
    client = harness.connect(since=at(1), room=100)
    for number in range(5001, 5041):
        harness.publish(*events(number, number, 1000))
        assert client.subscriber.state is State.CATCHING_UP
        assert client.subscriber.queued_bytes <= 200_000, "the history was copied into the queue"
        client.drain(100)

    async def finish() -> None:
        while client.subscriber.state is State.CATCHING_UP:
            client.drain(1_000_000)
            await asyncio.sleep(0)

    asyncio.run(finish())
    client.drain_slowly()
    assert client.data() == [key(number) for number in range(2, 5041)]
    assert not client.connection.closed


@pytest.mark.parametrize("room", [0, 1, 1000, 70_000, 200_000, float("inf")])
def test_one_that_catches_up_goes_on_after_a_full_socket_has_room_again(harness, room):
    harness.publish(*events(1, 30, 20_000))
    client = harness.connect(since=after(0), room=10)
    client.drain_slowly(room)
    assert client.data() == [key(number) for number in range(1, 31)]
    assert client.subscriber.state is State.LIVE


def test_long_history_is_read_in_turns_so_that_others_have_theirs(harness):
    harness.publish(*events(1, 20_000, 10))

    async def scenario() -> None:
        clients = [harness.connect(since=at(1)) for _ in range(3)]
        first = [len(client.connection.received) for client in clients]
        assert max(first) < 20_000 * 30 / 2, "read to the end in one turn"
        assert min(first) > 0
        await until(lambda: all(client.subscriber.state is State.LIVE for client in clients))
        for client in clients:
            assert client.data() == [key(number) for number in range(2, 20_001)]

    asyncio.run(scenario())


def test_one_that_falls_behind_the_history_while_catching_up_is_handed_on_where_it_is():
    harness = Harness(history_max_bytes=200_000)
    harness.start()
    harness.publish(*events(1, 100, 1000))
    client = harness.connect(since=at(1), room=10)
    harness.publish(*events(101, 1000, 1000))
    client.drain_slowly()
    heard = client.data()
    assert heard == [key(number) for number in range(2, len(heard) + 2)]
    assert harness.behind == [client.subscriber]
    assert client.subscriber.position.key == heard[-1]


def test_gap_in_the_log_resets_the_live_and_hands_on_those_who_were_catching_up(harness):
    harness.publish(*events(1, 100, 2000))
    live, slow = harness.connect(), harness.connect(since=at(1), room=10)
    gap = Reset(ResetReason.HISTORY_LOST, id="t200", key=after(200).key)
    harness.publish(gap, checkpoint=after(200), restarted=True)
    harness.publish(*events(201, 202))
    assert live.data() == ["", key(201), key(202)]
    assert live.ids[-3:] == ["t200", key(201), key(202)]
    slow.drain_slowly()
    assert harness.behind == [slow.subscriber]
    assert "" not in slow.data()
    # One who comes back with what the reset gave it is not reset again.
    assert harness.connect(since=after(200)).data() == [key(201), key(202)]


# -- keep-alives -----------------------------------------------------------------------------------


async def keep_until(harness: Harness, condition) -> None:
    """Let the list keep its clients until something has come of it."""
    keeper = asyncio.create_task(harness.keeper.run())
    try:
        await until(condition)
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)


async def keeping(harness: Harness, seconds: float) -> None:
    """Let `seconds` pass for the list, in one jump, and wait for what comes of it."""
    canary = harness.connect()
    sent = len(canary.connection.sent)
    harness.clock.now += seconds
    # The canary joined last, so whoever was silent for longer has had its turn before.
    await keep_until(harness, lambda: len(canary.connection.sent) > sent)
    harness.list.remove(canary.subscriber)


def blocks(client: Client) -> list[list[str]]:
    client.heard()
    return client.parser.blocks


def test_silent_client_is_sent_a_comment_when_nothing_moved(harness):
    client = harness.connect()
    asyncio.run(keeping(harness, 60))
    assert blocks(client)[2:] == [[":"]]


def test_silent_client_is_moved_forward_once(harness):
    async def scenario() -> None:
        client = harness.connect()
        harness.publish(checkpoint=after(7))
        await keeping(harness, 60)
        await keeping(harness, 60)
        harness.publish(checkpoint=after(8))
        await keeping(harness, 60)
        assert blocks(client)[2:] == [["id: t7"], [":"], ["id: t8"]]
        assert client.heard() == []

    asyncio.run(scenario())


def test_checkpoint_never_precedes_an_event_that_the_client_has_had(harness):
    async def scenario() -> None:
        client = harness.connect()
        harness.publish(*events(6, 7), checkpoint=after(6))
        await keeping(harness, 60)
        assert blocks(client)[-1] == [":"]
        harness.publish(checkpoint=after(7))
        await keeping(harness, 60)
        assert blocks(client)[-1] == ["id: t7"]

    asyncio.run(scenario())


def test_checkpoint_never_goes_backwards(harness):
    async def scenario() -> None:
        client = harness.connect()
        harness.publish(checkpoint=after(9))
        await keeping(harness, 60)
        harness.publish(checkpoint=after(8))
        await keeping(harness, 60)
        assert blocks(client)[-2:] == [["id: t9"], [":"]]

    asyncio.run(scenario())


def test_checkpoint_moves_one_forward_who_came_back_but_not_behind_its_own_id(harness):
    async def scenario() -> None:
        harness.publish(*events(1, 5), checkpoint=after(3))
        client = harness.connect(since=at(5))
        await keeping(harness, 60)
        assert blocks(client)[1:] == [[":"]]
        harness.publish(checkpoint=after(5))
        await keeping(harness, 60)
        assert blocks(client)[-1] == ["id: t5"]

    asyncio.run(scenario())


def test_newcomers_do_not_keep_a_quiet_client_from_being_moved_forward(harness):
    async def scenario() -> None:
        quiet = harness.connect()
        harness.publish(checkpoint=after(7))
        # Its opening has the position already, which the other one still has to get.
        newcomer = harness.connect()
        await keeping(harness, 60)
        assert blocks(quiet)[-1] == blocks(newcomer)[-1] == ["id: t7"]

    asyncio.run(scenario())


def test_checkpoint_waits_for_one_who_came_back_from_later(harness):
    async def scenario() -> None:
        quiet = harness.connect()
        # Nobody here wants these, so nothing moves them on.
        harness.publish(*(Quiet(key(number)) for number in range(1, 6)), checkpoint=after(3))
        returned = harness.connect(since=at(5))
        await keeping(harness, 60)
        assert blocks(quiet)[-1] == blocks(returned)[-1] == [":"]
        harness.publish(checkpoint=after(5))
        await keeping(harness, 60)
        assert blocks(quiet)[-1] == blocks(returned)[-1] == ["id: t5"]

    asyncio.run(scenario())


def test_only_those_who_were_silent_are_kept_alive(harness):
    async def scenario() -> None:
        first, second = harness.connect(), harness.connect(subscription=Louder())
        harness.clock.now += 0.06
        harness.publish(Quiet(key(1)))
        assert second.data() == [key(1)]
        harness.clock.now += 0.06
        # One look at the list decides about both.
        await keep_until(harness, lambda: len(blocks(first)) == 3)
        assert blocks(first)[2] == [":"]
        assert len(blocks(second)) == 3
        harness.clock.now += 0.06
        await keep_until(harness, lambda: len(blocks(second)) == 4)
        assert blocks(second)[3] == [":"]
        assert len(blocks(first)) == 3

    asyncio.run(scenario())


def test_one_who_is_behind_or_played_to_alone_gets_comments_and_no_position(harness):
    async def scenario() -> None:
        behind = harness.connect(since=Position("lost", "lost"))
        alone = harness.connect(subscription=Subscription(recipient=1))
        harness.publish(checkpoint=after(5))
        await keeping(harness, 60)
        assert blocks(behind) == blocks(alone) == [["retry: 3000"], [":"]]

    asyncio.run(scenario())


def test_busy_client_is_not_sent_keep_alives_on_top(harness):
    async def scenario() -> None:
        client = harness.connect()
        client.connection.room = 0
        harness.publish(*events(1, 1))
        # Silent for longer than the heartbeat, not yet for as long as the write timeout.
        await keeping(harness, 0.15)
        client.drain()
        assert blocks(client)[2:] == [["id: 000001", "data: xxxxxxxxxx"]]

    asyncio.run(scenario())


def test_many_silent_clients_are_all_kept_alive(harness):
    async def scenario() -> None:
        clients = [harness.connect() for _ in range(1700)]
        await keeping(harness, 60)
        assert {len(client.connection.sent) for client in clients} == {2}

    asyncio.run(scenario())


# -- those who take nothing ------------------------------------------------------------------------


def test_stuck_client_is_cut_off_and_the_others_are_not(harness, caplog):
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        stuck, slow, fine = harness.connect(), harness.connect(), harness.connect()
        stuck.connection.room = slow.connection.room = 0
        harness.publish(*events(1, 1, 500_000))
        harness.clock.now += 0.15
        slow.drain(0)
        harness.clock.now += 0.12
        await keep_until(harness, lambda: stuck.connection.closed)
        assert not slow.connection.closed, "it takes its time, but it takes something"
        assert not fine.connection.closed
        assert len(harness.list) == 2
        slow.drain_slowly()
        assert slow.data() == fine.data() == [key(1)]

    asyncio.run(scenario())
    assert "write-timeout" in caplog.text


def test_client_that_was_busy_once_is_not_cut_off_for_it_later(harness):
    async def scenario() -> None:
        once, stuck = harness.connect(), harness.connect()
        once.connection.room = stuck.connection.room = 0
        harness.publish(*events(1, 1))
        once.drain()
        harness.clock.now += 0.15
        # Busy again, and since a moment only: the one that takes nothing must be found all the same.
        once.connection.room = 0
        harness.publish(*events(2, 2))
        harness.clock.now += 0.06
        await keep_until(harness, lambda: stuck.connection.closed)
        assert not once.connection.closed
        once.drain()
        harness.clock.now += 10
        await keeping(harness, 60)
        assert not once.connection.closed
        assert once.data() == [key(1), key(2)]

    asyncio.run(scenario())


# -- the end ---------------------------------------------------------------------------------------


def test_goodbye_tells_everyone_to_come_back_at_different_times():
    harness = Harness(retry_ms=1000)
    harness.start()
    clients = [harness.connect(framing=CHUNKED) for _ in range(50)]

    async def scenario() -> None:
        closing = asyncio.create_task(harness.keeper.drain(CloseReason.SHUTDOWN, 60))
        await until(lambda: all(client.connection.closed for client in clients))
        assert not closing.done(), "it returns when all have left"
        for client in clients:
            harness.list.remove(client.subscriber)
        await closing

    asyncio.run(scenario())
    retries = set()
    for client in clients:
        content, ended = dechunk(client.connection.received)
        assert ended
        parser = Parser()
        [bye] = parser.feed(content)
        assert (bye.event, bye.data) == ("bye", '{"reason":"shutdown"}')
        assert 500 <= parser.retry <= 1500
        # Where it resumes is not changed by a goodbye.
        assert bye.id == "t0"
        retries.add(parser.retry)
    assert len(retries) > 20


def test_goodbye_goes_out_after_what_waits(harness):
    client = harness.connect()
    client.connection.room = 0
    harness.publish(*events(1, 30, 10_000))

    async def scenario() -> None:
        closing = asyncio.create_task(harness.keeper.drain(CloseReason.SHUTDOWN, 60))
        await asyncio.sleep(0)
        harness.publish(*events(31, 31))
        client.drain_slowly()
        assert client.connection.closed
        harness.list.remove(client.subscriber)
        await closing

    asyncio.run(scenario())
    assert [event.event for event in client.heard()] == ["message"] * 30 + ["bye"]


@pytest.mark.parametrize("since", [None, at(1), Position("lost", "lost")], ids=["live", "behind", "lost"])
def test_goodbye_does_not_wait_for_ever_for_one_who_takes_nothing(harness, since):
    harness.publish(*events(1, 50, 10_000))
    client = harness.connect(since=since, room=0)
    asyncio.run(harness.keeper.drain(CloseReason.SHUTDOWN, 0.05))
    assert client.connection.closed
    assert len(harness.list) == 0


def test_close_of_an_empty_list_returns_at_once(harness):
    asyncio.run(asyncio.wait_for(harness.keeper.drain(CloseReason.SHUTDOWN, 3600), 20))


@pytest.mark.parametrize("since", [None, at(1), Position("lost", "lost")], ids=["live", "behind", "lost"])
def test_remove_is_harmless_twice_and_nothing_more_is_sent(harness, since, caplog):
    caplog.set_level(logging.INFO)
    harness.publish(*events(1, 50, 10_000))
    client, other = harness.connect(since=since, room=1000), harness.connect()
    harness.list.remove(client.subscriber)
    harness.list.remove(client.subscriber)
    sent = len(client.connection.sent)
    harness.publish(*events(51, 51))
    harness.list.drained(client.subscriber)
    assert len(client.connection.sent) == sent
    assert other.data() == [key(51)]
    assert len(harness.list) == 1
    assert caplog.text.count("client left") == 1


def test_log_line_at_the_end_says_what_the_client_got(harness, caplog):
    caplog.set_level(logging.INFO)
    harness.publish(*events(1, 5))
    early = harness.connect()
    harness.publish(*events(6, 8))
    late = harness.connect(since=at(4))
    harness.publish(*events(9, 10))
    for client in (early, late):
        harness.list.remove(client.subscriber)
    first, second = (record.getMessage() for record in caplog.records)
    pattern = r"client left after \d+\.\d s: (\d+) events, (\d+) bytes, client-left(, resumed)?"
    assert re.fullmatch(pattern, first).groups() == ("5", str(len(early.connection.received)), None)
    assert re.fullmatch(pattern, second).groups() == ("6", str(len(late.connection.received)), ", resumed")


def test_log_line_counts_what_was_sent_whatever_was_counted_for_those_who_left_before(harness, caplog):
    caplog.set_level(logging.INFO)
    for count in range(1, 5):
        client = harness.connect()
        harness.publish(*events(10 * count, 10 * count + count - 1))
        caplog.clear()
        harness.list.remove(client.subscriber)
        assert f": {count} events, {len(client.connection.received)} bytes" in caplog.text


def count_of(kind: type) -> int:
    gc.collect()
    return sum(isinstance(one, kind) for one in gc.get_objects())


def test_nothing_is_rendered_for_those_who_left(harness):
    clients = [harness.connect(subscription=Louder(volume=volume)) for volume in range(20)]
    for client in clients:
        harness.list.remove(client.subscriber)
    [event] = events(1, 1)
    harness.publish(event)
    assert event.renders == 0


def test_nothing_is_left_of_those_who_left():
    harness = Harness(queue_max_bytes=1024, history_max_bytes=1_000_000)
    harness.start()
    harness.publish(*events(1, 400, 1000))

    def crowd() -> list[weakref.ref[object]]:
        clients = [
            harness.connect(since=since, room=room, subscription=subscription, framing=framing)
            for since in (None, at(1), at(399), at(7), Position("lost", "lost"))
            for room in (0, 10, float("inf"))
            for subscription in (Subscription(), Louder(), Louder(volume=3), Subscription(recipient=5))
            for framing in (BARE, CHUNKED)
        ]
        harness.publish(*events(401, 402, 1000))
        harness.publish(*events(403, 404, 1000))
        for client in clients[::3]:
            client.drain(10)
        for client in clients:
            harness.list.remove(client.subscriber)
        harness.behind.clear()
        return [weakref.ref(client.subscriber) for client in clients]

    groups = count_of(Group)
    left = crowd()
    gc.collect()
    assert [reference() for reference in left if reference() is not None] == []
    assert count_of(Group) == groups
    assert len(harness.list) == 0
    again = harness.connect()
    harness.publish(*events(405, 405))
    assert again.data() == [key(405)]


# -- everything at once ----------------------------------------------------------------------------

clients = st.integers(0, 5)
steps = st.one_of(
    st.tuples(st.just("publish"), st.integers(1, 6), st.sampled_from([1, 1, 500, 30_000]), st.booleans()),
    st.tuples(st.just("publish"), st.integers(1, 300), st.just(1), st.booleans()),
    st.tuples(st.just("checkpoint")),
    st.tuples(st.just("join"), st.sampled_from([0, 0, 10, 40_000, 200_000])),
    st.tuples(st.just("block"), clients, st.sampled_from([0, 10, 5000])),
    st.tuples(st.just("drain"), clients, st.sampled_from([0, 10, 5000, 70_000, 10**9])),
    st.tuples(st.just("drain"), clients, st.just(10**9)),
    st.tuples(st.just("cut"), clients, st.sampled_from([0, 1000, 100_000])),
)


class World:
    """A brook, and clients that come back with the last id they had, as browsers do."""

    def __init__(self) -> None:
        self.harness = Harness(queue_max_bytes=60_000)
        self.harness.start()
        self.number = 0
        self.clients: list[Client] = []
        self.heard: dict[int, list[str]] = {}
        self.since: dict[int, tuple[int, int]] = {}
        self.checkpoint_at = 0

    def publish(self, count: int, size: int, with_checkpoint: bool) -> None:
        happened = events(self.number + 1, self.number + count, size)
        self.number += count
        self.harness.publish(*happened, checkpoint=after(self.number - 1) if with_checkpoint else None)
        if with_checkpoint:
            self.checkpoint_at = self.number - 1

    def checkpoint(self) -> None:
        self.checkpoint_at = self.number
        self.harness.publish(checkpoint=after(self.number))

    def join(self, room: int) -> None:
        if len(self.clients) < 6:
            # Its opening names the last checkpoint: if it is cut at once, it comes back with that.
            self.since[len(self.clients)] = (self.checkpoint_at, self.number)
            self.heard[len(self.clients)] = []
            # A browser that has not even had its opening knows no place to come back to.
            self.clients.append(self.harness.connect(room=100))
            self.clients[-1].connection.room = room

    def block(self, index: int, room: int) -> None:
        if index < len(self.clients):
            self.clients[index].connection.room = room

    def drain(self, index: int, room: int) -> None:
        if index < len(self.clients):
            self.clients[index].drain(room)
            if self.clients[index].connection.closed:
                self.cut(index, room)

    def cut(self, index: int, room: int) -> None:
        """The connection is lost, and the browser comes back with the last id that it has read."""
        if index >= len(self.clients):
            return
        old = self.clients[index]
        self.check(index)
        self.heard[index] += [event.id for event in old.heard() if event.event == "message"]
        self.harness.list.remove(old.subscriber)
        last = old.parser.last_id
        since = at(int(last)) if last.isdigit() else after(int(last[1:]))
        self.clients[index] = self.harness.connect(since=since, room=room)
        self.clients[index].parser.last_id = last

    def check(self, index: int) -> None:
        """Positions only ever move forward, and nobody is sent what it did not miss."""
        client = self.clients[index]
        client.heard()
        keys = [id if id.isdigit() else f"{int(id[1:]):06d}~" for id in client.ids]
        assert keys == sorted(keys), "a position went backwards"
        events_heard = [event for event in client.events if event.event != "bye"]
        assert all(event.event == "message" for event in events_heard), events_heard
        assert not self.harness.behind

    async def finish(self) -> None:
        """Everybody gets room, time and again, and comes back after a goodbye."""
        for index in range(len(self.clients)):
            while True:
                self.clients[index].drain_slowly(100_000)
                await asyncio.sleep(0)
                if self.clients[index].connection.closed:
                    self.cut(index, 10**9)
                elif self.clients[index].subscriber.state is State.LIVE:
                    break
                else:
                    assert self.clients[index].connection.buffered is not None, "forgotten on the way"
            self.check(index)
            heard = self.heard[index] + [event.id for event in self.clients[index].heard()]
            firsts = self.since[index]
            expected = [[key(number) for number in range(first + 1, self.number + 1)] for first in firsts]
            assert heard in expected, "a gap or a repeat"


@hypothesis_settings(deadline=None, max_examples=200)
@given(script=st.lists(steps, min_size=3, max_size=30))
@example(script=[("join", 0), ("publish", 6, 30_000, False), ("drain", 0, 10**9), ("publish", 1, 1, False)])
def test_every_client_gets_every_event_once_and_in_order_however_it_reads_and_is_cut(script):
    async def scenario() -> None:
        world = World()
        actions = {
            "publish": world.publish, "checkpoint": world.checkpoint, "join": world.join,
            "block": world.block, "drain": world.drain, "cut": world.cut,
        }  # fmt: skip
        for name, *arguments in script:
            actions[name](*arguments)
        await world.finish()

    asyncio.run(scenario())


# -- large batches ---------------------------------------------------------------------------------


def test_large_batch_leaves_the_loop_a_turn_after_each_group(harness):
    async def scenario() -> None:
        clients = [harness.connect(subscription=Louder(volume=volume)) for volume in range(5)]
        [event] = events(1, 1)
        publishing = asyncio.create_task(harness.list.publish_in_turns(Batch((event,), after(1))))
        seen = []
        while not publishing.done():
            await asyncio.sleep(0)
            seen.append(event.renders)
        assert {1, 2, 3, 4, 5} <= set(seen), "two groups in one turn"
        assert all(client.data() == [key(1)] for client in clients)

    asyncio.run(scenario())


def test_whoever_joins_during_a_large_batch_misses_nothing_and_gets_nothing_twice(harness):
    async def scenario() -> None:
        harness.publish(*events(1, 5), checkpoint=after(5))
        wanted = (Louder(volume=volume) for volume in range(3))
        served, waiting, leaving = (harness.connect(subscription=each) for each in wanted)
        publishing = asyncio.create_task(harness.list.publish_in_turns(Batch(tuple(events(6, 7)), after(7))))
        while not served.data():
            await asyncio.sleep(0)
        assert waiting.data() == []
        harness.list.remove(leaving.subscriber)
        joining = [
            harness.connect(since=since, subscription=Louder(volume=volume))
            for volume in range(3)
            for since in (None, at(3), after(5))
        ]
        gone = harness.connect(subscription=Louder(volume=1))
        harness.list.remove(gone.subscriber)
        harness.list.announce(b": about the feed\n\n", to_newcomers=False)
        await publishing
        harness.publish(*events(8, 8))
        assert served.data() == waiting.data() == [key(6), key(7), key(8)]
        assert leaving.data() == gone.data() == []
        now, came_back, waited = (joining[index::3] for index in range(3))
        assert all(client.data() == [key(8)] for client in now)
        assert all(client.ids[0] == "t7" for client in now), "a position before what it was not sent"
        assert all(client.data() == [key(number) for number in range(4, 9)] for client in came_back)
        assert all(client.data() == [key(number) for number in range(6, 9)] for client in waited)

    asyncio.run(scenario())


# -- the state of the feed -------------------------------------------------------------------------

INTERRUPTED = {"state": "interrupted"}


def feed_states(client: Client) -> list[dict]:
    return [json.loads(event.data) for event in client.heard() if event.event == "feed"]


def test_interruption_of_the_source_is_told_once_when_it_is_long_and_when_it_is_over(harness):
    async def scenario() -> None:
        live, behind = harness.connect(), harness.connect(since=Position("lost", "lost"))
        harness.source.interruption = "MongoDB does not answer"
        await keeping(harness, 0.1)
        await keeping(harness, 4.9)
        assert feed_states(live) == [], "a short election is no interruption"
        await keeping(harness, 0.2)
        await keeping(harness, 100)
        newcomer = harness.connect()
        assert feed_states(live) == feed_states(behind) == feed_states(newcomer) == [INTERRUPTED]
        harness.source.interruption = None
        await keeping(harness, 1)
        for client in (live, behind, newcomer):
            assert feed_states(client) == [INTERRUPTED, {"state": "live"}]
        assert feed_states(harness.connect()) == []
        # It is no event of the log: a client that comes back resumes from the same position.
        assert live.ids[-1] == newcomer.ids[-1] == "t0"

    asyncio.run(scenario())
