"""The checker fails on what it is there to find: a record that is wrong in one place."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.chaos.checker import ChangesChecker, States, Verdict, check_live
from tests.chaos.queries import CHANGES, LIVE, MASK, ChangesQuery, LiveQuery, mix, ordered
from tests.chaos.records import ChangesRecord, Gap, LiveRecord
from tests.chaos.truth import DELETE, INSERT, UPDATE, LostLog, Operation, Truth, cluster_time

PLAIN, ENVELOPE, *_ = CHANGES
START = cluster_time(100, 1)


def history(count: int = 60) -> Truth:
    """Inserts, updates, deletes; some share a time, as in a transaction."""
    chance = random.Random(1)
    operations: list[Operation] = []
    held: list[int] = []
    second = 101
    for number in range(1, count + 1):
        second += chance.random() < 0.7
        kind = chance.choice((INSERT, UPDATE, DELETE)) if len(held) > 3 else INSERT
        if kind == INSERT:
            held.append(number)
        key = held[-1] if kind == INSERT else chance.choice(held)
        if kind == DELETE:
            held.remove(key)
        stamp = 0 if kind == DELETE else 1000 + number
        operations.append(Operation(cluster_time(second, 1), kind, key, stamp, key % 3 + 1))
    return Truth(operations)


HISTORY = history()


def recorded(query: ChangesQuery = ENVELOPE) -> ChangesRecord:
    """A client that was sent everything."""
    record = ChangesRecord(START)
    for each in HISTORY.only(query.accepts).operations:
        record.add(each.time, each.key, each.stamp)
    return record


def check(record: ChangesRecord, query: ChangesQuery = ENVELOPE, *lost_logs: LostLog) -> Verdict:
    return ChangesChecker(query, HISTORY.only(query.accepts), record, lost_logs).verdict()


def without(record: ChangesRecord, *places: int) -> ChangesRecord:
    for column in (record.times, record.keys, record.stamps):
        for place in sorted(places, reverse=True):
            del column[place]
    return record


def swapped(record: ChangesRecord, place: int, other: int) -> ChangesRecord:
    for column in (record.times, record.keys, record.stamps):
        column[place], column[other] = column[other], column[place]
    return record


@pytest.mark.parametrize("query", CHANGES, ids=lambda query: query.name)
def test_record_of_everything_passes(query):
    verdict = check(recorded(query), query)
    assert verdict.passes, verdict
    assert verdict.deliveries > 10


@pytest.mark.parametrize("place", range(len(HISTORY.operations)))
def test_lost_event_fails_wherever_it_was(place):
    verdict = check(without(recorded(), place))
    assert (verdict.lost, verdict.passes) == (1, False)
    assert "lost" in verdict.told[0]


@pytest.mark.parametrize("place", range(len(HISTORY.operations)))
def test_repeated_event_fails_at_once_and_later(place):
    for where in (place + 1, len(HISTORY.operations)):
        record = recorded()
        for column in (record.times, record.keys, record.stamps):
            column.insert(where, column[place])
        verdict = check(record)
        assert (verdict.repeated, verdict.lost, verdict.passes) == (1, 0, False)


@pytest.mark.parametrize("place", range(len(HISTORY.operations) - 1))
def test_swapped_events_fail(place):
    verdict = check(swapped(recorded(), place, place + 1))
    assert (verdict.out_of_order, verdict.lost, verdict.passes) == (1, 0, False)


def test_event_that_was_rolled_back_fails():
    record = recorded()
    for column, value in ((record.times, cluster_time(110, 9)), (record.keys, 999), (record.stamps, 900_001)):
        column.insert(7, value)
    verdict = check(record)
    assert (verdict.alien, verdict.passes) == (1, False)


@pytest.mark.parametrize("query", [PLAIN, ENVELOPE], ids=lambda query: query.name)
def test_event_with_a_document_of_before_fails(query):
    record = recorded(query)
    place = next(place for place, each in enumerate(HISTORY.operations) if each.kind == UPDATE)
    record.stamps[place] = next(
        each.stamp for each in HISTORY.operations if each.key == HISTORY.operations[place].key
    )
    assert check(record, query).alien == 1


def test_plain_update_may_show_a_newer_document_and_be_left_out_when_that_is_gone():
    operations = [
        Operation(cluster_time(101, 1), INSERT, 1, 1, 1),
        Operation(cluster_time(102, 1), UPDATE, 1, 2, 1),
        Operation(cluster_time(103, 1), UPDATE, 1, 3, 1),
        Operation(cluster_time(104, 1), UPDATE, 1, 4, 1),
        Operation(cluster_time(105, 1), DELETE, 1, 0, 1),
    ]
    record = ChangesRecord(START)
    for time, stamp in ((101, 1), (102, 3), (103, 3), (105, 0)):
        record.add(cluster_time(time, 1), 1, stamp)
    assert ChangesChecker(PLAIN, Truth(operations), record).verdict().passes
    assert not ChangesChecker(ENVELOPE, Truth(operations), record).verdict().passes
    # The document is still there: its last update has to come.
    assert ChangesChecker(PLAIN, Truth(operations[:-1]), without(record, 3)).verdict().lost == 1


def test_client_that_ends_too_early_or_never_opened_fails():
    count = len(HISTORY.operations)
    assert check(without(recorded(), *range(count - 5, count))).lost == 5
    assert check(ChangesRecord()).lost == count


def with_gap(reason: str = "history-lost", since: int = START) -> ChangesRecord:
    """Ten operations are missing, and a reset says so."""
    record = without(recorded(), *range(10, 20))
    record.gaps.append(Gap(10, reason, since, HISTORY.times[19] >> 32))
    return record


def test_gap_passes_only_if_the_log_had_forgotten_the_position():
    lost = LostLog(HISTORY.times[15])
    verdict = check(with_gap(), ENVELOPE, lost)
    assert (verdict.passes, verdict.skipped, verdict.resets) == (True, 10, 1)
    assert check(with_gap()).unexplained_resets == 1
    assert check(with_gap(), ENVELOPE, LostLog(START)).unexplained_resets == 1
    assert check(with_gap("invalid-id"), ENVELOPE, lost).unexplained_resets == 1
    assert check(with_gap(), ENVELOPE, LostLog(HISTORY.times[-1])).unexplained_resets == 1, "lost only later"


def test_gap_excuses_nothing_that_was_written_after_the_reset():
    record = with_gap()
    record.gaps[0] = replace(record.gaps[0], clock=(HISTORY.times[14] >> 32) - 0.5)
    assert check(record, ENVELOPE, LostLog(HISTORY.times[15])).lost > 0


# -- live queries ----------------------------------------------------------------------------------


def followed(query: LiveQuery) -> LiveRecord:
    record = LiveRecord(changes=len(HISTORY.operations))
    for time, digest in query.states(HISTORY):
        record.add(time, digest)
    return record


def slow_states(query: LiveQuery) -> list[tuple[int, int]]:
    """The same by brute force: every document, at every time."""
    found = []
    for time, held in HISTORY.states():
        stamps = sorted(
            (stamp for stamp, writer in held.values() if query.holds(stamp, writer)), reverse=True
        )
        found.append((time, query.digest(stamps[:20] if query.window else stamps)))
    return found


@pytest.mark.parametrize("query", LIVE, ids=lambda query: query.name)
def test_states_are_those_of_every_document_at_every_time(query):
    assert list(query.states(HISTORY)) == slow_states(query)


@pytest.mark.parametrize("query", LIVE, ids=lambda query: query.name)
def test_live_client_that_held_something_else_once_fails(query):
    states = States(query, HISTORY)
    assert check_live(states, followed(query)).passes
    for place in range(len(followed(query))):
        record = followed(query)
        record.digests[place] ^= 1
        assert not check_live(states, record).passes


def test_live_client_that_stopped_before_the_end_fails():
    record = followed(LIVE[0])
    record.times.pop()
    record.digests.pop()
    assert check_live(States(LIVE[0], HISTORY), record).untrue == 1


def test_live_client_with_a_new_snapshot_for_no_reason_fails():
    record = followed(LIVE[0])
    record.gaps.append(Gap(3, "history-lost", START, 200.0))
    assert check_live(States(LIVE[0], HISTORY), record).unexplained_resets == 1
    assert check_live(States(LIVE[0], HISTORY), record, [LostLog(START + 1)]).passes


def test_digest_of_a_window_knows_its_order_and_that_of_a_set_does_not():
    assert ordered([1, 2]) != ordered([2, 1])
    assert LIVE[0].digest([1, 2]) == LIVE[0].digest([2, 1]) == (mix(1) + mix(2)) & MASK
