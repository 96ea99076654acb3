"""The recent events: what is kept, for how long, and who may be served from it."""

from __future__ import annotations

import json
import weakref
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brook.delivery import history
from brook.delivery.history import History
from brook.event import Event, Position
from brook.query import Filter
from brook.subscription import Subscription
from tests.support.events import Clock, after, at, events, key, traced_memory
from tests.support.raw_client import Parser

EVERYTHING = Subscription()
MEGABYTE = 1024 * 1024


class Unwanted(Event):
    """An event that no subscription wants."""

    __slots__ = ()

    def matches(self, subscription: Subscription) -> bool:
        return False


def ids(data: bytes) -> list[str]:
    return [event.id for event in Parser().feed(data)]


def rest(kept: History, position: Position, subscription: Subscription = EVERYTHING) -> list[str]:
    """Everything that a reader at `position` gets, read as a subscriber does."""
    heard = []
    while (chunk := kept.read(position.key, subscription)) is not None:
        heard += ids(chunk.data)
        position = Position(chunk.end, chunk.end, exact=False)
    return heard


def started(max_bytes: int = 64 * MEGABYTE, max_seconds: float = 300, clock: Clock | None = None) -> History:
    """A history whose log begins after event 0."""
    kept = History(max_bytes, max_seconds, clock or Clock())
    kept.restart(after(0))
    return kept


# -- what it covers --------------------------------------------------------------------------------


def test_position_of_an_event_that_is_here_is_covered_and_gets_what_follows():
    kept = started()
    kept.append(events(1, 5))
    assert kept.covers(at(3))
    assert rest(kept, at(3)) == [key(4), key(5)]
    assert kept.covers(at(5))
    assert kept.read(key(5), EVERYTHING) is None


def test_event_that_never_was_is_not_covered_though_its_neighbours_are():
    kept = started()
    kept.append(events(1, 2) + events(4, 5))
    assert not kept.covers(at(3))


def test_event_with_the_same_place_but_another_id_is_not_covered():
    kept = started()
    kept.append([Event("a", key=key(1))])
    assert not kept.covers(Position(key(1), "b"))
    assert kept.covers(Position(key(1), "a"))


def test_moment_is_covered_from_the_start_up_to_what_was_published():
    kept = started()
    kept.append(events(1, 5))
    kept.advance(after(7))
    assert [kept.covers(after(number)) for number in range(-1, 9)] == [False] + [True] * 8 + [False]
    assert rest(kept, after(2)) == [key(3), key(4), key(5)]
    assert rest(kept, after(6)) == []


def test_moment_in_the_future_is_not_covered_since_nobody_knows_what_comes_before_it():
    kept = started()
    kept.append(events(1, 5))
    assert not kept.covers(after(5))
    kept.advance(after(5))
    assert kept.covers(after(5))


def test_start_is_covered_even_before_anything_has_happened():
    kept = started()
    assert kept.covers(after(0))
    assert not kept.covers(after(1))
    assert kept.read(after(0).key, EVERYTHING) is None


def test_event_before_the_start_is_not_covered():
    kept = started()
    kept.append(events(1, 5))
    assert not kept.covers(at(0))


def test_last_event_that_was_forgotten_is_covered_as_everything_after_it_is_here():
    kept = started(max_bytes=100 * 500)
    kept.append(events(1, 2000))
    forgotten = 2000 - len(kept)
    assert 0 < forgotten < 2000
    assert kept.covers(at(forgotten))
    assert rest(kept, at(forgotten)) == [key(number) for number in range(forgotten + 1, 2001)]
    assert not kept.covers(at(forgotten - 1))
    assert not kept.covers(after(forgotten - 1))


def test_nothing_from_before_a_restart_is_covered_afterwards():
    kept = started()
    kept.append(events(1, 5))
    kept.advance(after(5))
    kept.restart(after(9))
    assert len(kept) == kept.size == 0
    assert not any(kept.covers(position) for n in range(9) for position in (at(n), after(n)))
    assert kept.covers(after(9))
    kept.append(events(10, 12))
    assert rest(kept, after(9)) == [key(10), key(11), key(12)]


def test_restart_can_go_back_in_time():
    kept = started()
    kept.append(events(10, 12))
    kept.restart(after(3))
    kept.append(events(4, 5))
    assert not kept.covers(after(7))
    assert rest(kept, after(3)) == [key(4), key(5)]


def test_restart_at_an_unknown_place_covers_only_events_that_came_since():
    kept = started()
    kept.append(events(1, 5))
    kept.restart(None)
    kept.append(events(6, 8))
    assert not kept.covers(at(5))
    assert not kept.covers(after(5))
    assert kept.covers(at(6))


def test_reader_of_a_source_without_a_log_is_followed_to_the_end():
    """Such a source never says where its log begins; a position that a read came to is good all the same."""
    kept = History(MEGABYTE, 300)
    kept.append(events(1, 600))
    position = at(1)
    heard = []
    while kept.covers(position) and (chunk := kept.read(position.key, EVERYTHING)) is not None:
        heard += ids(chunk.data)
        position = Position(chunk.end, chunk.end, exact=False)
    assert heard == [key(number) for number in range(2, 601)]
    assert kept.covers(position)


# -- its bounds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 5000, 200_000])
def test_bytes_stay_within_the_bound_whatever_the_size_of_events(size):
    kept = started(max_bytes=MEGABYTE)
    for number in range(1, 4 * MEGABYTE // (size + 400)):
        kept.append(events(number, number, size))
        assert kept.size <= MEGABYTE
    assert kept.size > MEGABYTE // 2
    assert kept.size >= len(kept) * size


def test_oldest_events_go_first_and_the_newest_stay():
    kept = started(max_bytes=MEGABYTE)
    kept.append(events(1, 10_000, 1000))
    last = rest(kept, at(10_000 - len(kept)))
    assert last == [key(number) for number in range(10_001 - len(kept), 10_001)]


def test_event_larger_than_the_bound_is_not_kept_and_its_own_position_is_still_good():
    kept = started(max_bytes=1000)
    kept.append(events(1, 1, 5000))
    assert (len(kept), kept.size) == (0, 0)
    assert kept.covers(at(1))
    assert not kept.covers(after(0))


def test_history_may_be_switched_off():
    kept = started(max_bytes=0)
    kept.append(events(1, 3))
    assert len(kept) == 0
    assert kept.covers(at(3))
    assert not kept.covers(at(2))


def test_events_over_the_age_are_forgotten():
    clock = Clock()
    kept = started(max_seconds=60, clock=clock)
    kept.append(events(1, 5))
    clock.now += 200
    kept.expire()
    assert len(kept) == kept.size == 0
    assert kept.covers(at(5))
    assert not kept.covers(at(4))


def test_events_within_the_age_are_kept_however_slowly_they_come():
    """One event a second: when the first of them is too old, the newest are not."""
    clock = Clock()
    kept = started(max_seconds=60, clock=clock)
    for number in range(1, 300):
        kept.append(events(number, number))
        clock.now += 1
        oldest = max(1, number - 50)
        assert kept.covers(at(oldest)), f"event {oldest} is {number - oldest + 1} s old"


def test_events_do_not_stay_much_longer_than_the_age_however_slowly_they_come():
    clock = Clock()
    kept = started(max_seconds=60, clock=clock)
    for number in range(1, 50):
        kept.append(events(number, number))
        clock.now += 30
    assert len(kept) <= 6


# -- what it renders -------------------------------------------------------------------------------


def test_readers_that_return_together_share_what_is_rendered():
    kept = started()
    happened = events(1, 5000)
    kept.append(happened)
    expected = [key(number) for number in range(4001, 5001)]
    for number in range(200):
        # Each from another place.
        assert rest(kept, at(4000 - number))[number:] == expected
    assert {event.renders for event in happened[3900:]} == {1}


def test_different_subscriptions_do_not_share():
    kept = started()
    happened = events(1, 10)
    kept.append(happened)
    for recipient in range(5):
        rest(kept, after(0), Subscription(recipient=recipient))
    assert {event.renders for event in happened} == {5}


def test_event_that_joins_a_block_already_read_is_read_too():
    kept = started()
    for number in range(1, 20):
        kept.append(events(number, number))
        assert rest(kept, at(number - 1) if number > 1 else after(0)) == [key(number)]


def test_chunk_counts_the_events_that_are_wanted():
    kept = started()
    kept.append([Event(key(1), "a"), Unwanted(key(2)), Event(key(3), "b"), Unwanted(key(4))])
    chunk = kept.read(after(0).key, EVERYTHING)
    assert (ids(chunk.data), chunk.events, chunk.end) == ([key(1), key(3)], 2, key(4))


def test_read_returns_a_piece_at_a_time_so_that_a_socket_can_take_it():
    kept = started()
    kept.append(events(1, 10_000, 100))
    chunk = kept.read(after(0).key, EVERYTHING)
    assert 1 < chunk.events <= history.BLOCK_EVENTS
    kept = started()
    kept.append(events(1, 100, 20_000))
    assert len(kept.read(after(0).key, EVERYTHING).data) <= history.BLOCK_BYTES + 20_100


@pytest.mark.parametrize("kind", [Event, Unwanted])
def test_rendered_frames_are_bounded_however_many_subscriptions_there_are(kind):
    kept = started(max_bytes=MEGABYTE // 4)
    kept.append([kind(key(number), "x") for number in range(1, 257)])
    kept.read(after(0).key, EVERYTHING)
    with traced_memory() as grown:
        for recipient in range(1, 1000):
            kept.read(after(0).key, Subscription(recipient=recipient))
        # A quarter of the bound in frames, which are small here, and several times that for the objects.
        assert grown() < MEGABYTE


def test_filters_that_rendered_frames_are_kept_for_count_as_what_they_take():
    query = json.dumps({"a": {"$all": [{"$elemMatch": {"b": number}} for number in range(60)]}})
    kept = started(max_bytes=MEGABYTE)
    kept.append([Unwanted(key(1), "x")])
    with traced_memory() as grown:
        for number in range(300):
            filter = Filter.parse(query.replace("59", str(1000 + number)))
            kept.read(after(0).key, Subscription(filter=filter))
        assert grown() < MEGABYTE


def test_decoded_block_is_forgotten_with_the_block():
    class Opened(Event):
        __slots__ = ("__weakref__",)

    opened: list[weakref.ref[Event]] = []

    class Decoded(Event):
        __slots__ = ()

        def decode(self) -> Event:
            event = Opened(self.id)
            opened.append(weakref.ref(event))
            return event

    clock = Clock()
    kept = started(max_seconds=10, clock=clock)
    kept.append([Decoded(key(1))])
    kept.read(after(0).key, EVERYTHING)
    assert opened[0]() is not None
    clock.now += 100
    kept.expire()
    assert opened[0]() is None


# -- against a model -------------------------------------------------------------------------------

appends = st.tuples(st.just("append"), st.integers(1, 12), st.sampled_from([0, 0, 1, 30, 900]))
joins = st.tuples(st.just("join"), st.integers(0, 15), st.booleans())
reads = st.tuples(st.just("read"), st.integers(0, 9))
steps = st.one_of(
    appends,
    joins,
    appends,
    joins,
    reads,
    reads,
    st.tuples(st.just("checkpoint")),
    st.tuples(st.just("pass"), st.sampled_from([1, 10, 31, 100])),
    st.tuples(st.just("restart"), st.booleans()),
)


class Model:
    """A plain list beside the history, and readers that note what they hear."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.kept = History(9000, 30, self.clock)
        self.start: Position | None = None
        self.log: list[str] = []
        self.next = 1
        self.checkpoint = ""
        self.readers: list[Position] = []

    def lost(self) -> list[str]:
        return self.log[: len(self.log) - len(self.kept)]

    def follows(self, position: Position) -> list[str]:
        return [id for id in self.log if id > position.key]

    def append(self, count: int, size: int) -> None:
        batch = events(self.next, self.next + count - 1, size)
        self.kept.append(batch)
        self.log += [event.id for event in batch]
        # Some numbers are left out: positions that never were.
        self.next += count + 1

    def step_checkpoint(self) -> None:
        position = after(self.next - 1)
        self.kept.advance(position)
        self.checkpoint = position.key

    def passes(self, seconds: float) -> None:
        self.clock.now += seconds
        self.kept.expire()

    def restart(self, known: bool) -> None:
        self.next += 1
        self.start = after(self.next - 1) if known else None
        self.kept.restart(self.start)
        self.log = []
        self.checkpoint = ""
        self.readers = []

    def join(self, back: int, exact: bool) -> None:
        number = max(0, self.next - back)
        position = at(number) if exact else after(number)
        covered = self.kept.covers(position)
        if covered:
            assert not [id for id in self.lost() if id > position.key], "told that all is here: it is not"
            self.readers.append(position)
        retained = self.log[len(self.lost()) :]
        if exact:
            last_lost = self.lost()[-1:]
            assert covered == (position.key in retained + last_lost)
        elif self.start is not None:
            start = max([self.start.key, *self.lost()])
            head = max([self.start.key, self.checkpoint, *self.log])
            assert covered == (start <= position.key <= head)

    def unfinished(self) -> list[int]:
        return [index for index, position in enumerate(self.readers) if self.follows(position)]

    def read(self, index: int) -> None:
        if not self.readers:
            return
        index %= len(self.readers)
        position = self.readers[index]
        if not self.kept.covers(position):
            assert [id for id in self.lost() if id > position.key], "turned away, though all is here"
            self.readers.remove(position)
            return
        follows = self.follows(position)
        chunk = self.kept.read(position.key, EVERYTHING)
        if chunk is None:
            assert follows == []
            return
        heard = ids(chunk.data)
        assert heard
        assert heard == follows[: len(heard)], "a gap or a repeat"
        assert chunk.events == len(heard)
        assert chunk.end == heard[-1]
        self.readers[index] = Position(chunk.end, chunk.end, exact=False)


@settings(deadline=None, max_examples=300)
@given(script=st.lists(steps, min_size=3, max_size=40))
@example(script=[("append", 6, 0), ("join", 4, True)])
def test_reader_gets_exactly_what_follows_its_position_whatever_happens_meanwhile(script):
    with mock.patch.object(history, "BLOCK_EVENTS", 5), mock.patch.object(history, "BLOCK_BYTES", 3000):
        model = Model()
        actions = {
            "append": model.append, "checkpoint": model.step_checkpoint, "pass": model.passes,
            "restart": model.restart, "join": model.join, "read": model.read,
        }  # fmt: skip
        for name, *arguments in script:
            actions[name](*arguments)
            assert model.kept.size <= 9000
        while model.unfinished():
            model.read(model.unfinished()[0])
