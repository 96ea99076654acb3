"""Deliveries that are counted once a fan-out: the sums are those of the clients, whoever has left."""

from __future__ import annotations

import random

from brook.delivery.subscriber import Origin
from brook.delivery.tally import Tally
from brook.event import Position, Reset, ResetReason
from brook.histogram import Histogram
from tests.support.events import after, events
from tests.support.fakes import Harness


def tallied(**options) -> tuple[Harness, Tally]:
    harness = Harness(**options)
    tally = Tally()
    harness.list._observers = (tally,)
    harness.start()
    return harness, tally


def test_deliveries_are_the_sum_of_what_each_client_was_sent():
    harness, tally = tallied()
    chance = random.Random(7)
    clients, gone, number, before = [], [], 0, (0, 0)
    for _ in range(200):
        match chance.randrange(4):
            case 0:
                since = after(chance.randrange(number + 1)) if chance.random() < 0.5 else None
                clients.append(harness.connect(since=since, room=chance.choice([0, 50, 1e9])))
            case 1 if clients:
                client = clients.pop(chance.randrange(len(clients)))
                client.drain_slowly(1000)
                gone.append(client)
                harness.list.remove(client.subscriber)
            case 2 if clients:
                clients[0].drain_slowly(100)
            case _:
                harness.publish(*events(number + 1, number + 3))
                number += 3
        sent = tally.delivered(harness.list, harness.list.groups)
        assert sent[0] >= before[0], "a counter never gets smaller"
        assert sent[1] >= before[1], "a counter never gets smaller"
        before = sent
    for client in clients:
        client.drain_slowly(100)
    everyone = [*clients, *gone]
    heard = sum(len(client.data()) for client in everyone)
    assert heard > 500
    size = sum(len(client.connection.received) for client in everyone)
    assert tally.delivered(harness.list, harness.list.groups) == (heard, size)
    assert tally.connections == len(everyone)
    assert tally.disconnects == {"client-left": len(gone)}


def test_resume_is_counted_once_by_its_origin():
    harness, tally = tallied(source=None)
    harness.publish(*events(1, 5), checkpoint=after(5))
    harness.connect()
    assert not tally.resumes
    harness.connect(since=after(2))
    harness.connect(reset=Reset(ResetReason.INVALID_ID, since="garbage"))
    assert tally.resumes == {Origin.MEMORY: 1, Origin.RESET: 1}
    from_log = harness.connect(since=Position("0", "0"))
    lost = harness.connect(since=Position("1", "1"))
    assert tally.resumes.total() == 2, "they wait for the log"
    for client in (from_log, lost):
        assert client.subscriber in harness.behind
    from_log.subscriber.advance(after(5))
    harness.list.take_back(from_log.subscriber)
    harness.list.take_back(lost.subscriber, Reset(ResetReason.HISTORY_LOST, since="1"))
    assert tally.resumes == {Origin.MEMORY: 1, Origin.RESET: 2, Origin.LOG: 1}


def test_histogram_counts_up_to_each_bound():
    histogram = Histogram((0.1, 1.0))
    for value in (-5, 0.1, 0.5, 70):
        histogram.observe(value)
    assert list(histogram.cumulative()) == [(0.1, 2), (1.0, 3), (float("inf"), 4)]
    assert histogram.sum == 70.6
