"""The short form of `make chaos`: a few faults of each lane, always the same ones."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from tests.chaos import keys
from tests.chaos.faults import Faults
from tests.chaos.queries import CHANGES, LIVE
from tests.chaos.run import Plan, run
from tests.chaos.schedule import CLIENTS, KINDS, MONGO, SERVERS, Fault, deck, schedule

FEW = {
    MONGO: [Fault("roll back the primary", 1, 0, 0.2)],
    SERVERS: [Fault("kill a server", 0.5, 0, 0.2), Fault("swallow between server and node", 1, 0.9, 0.2)],
    CLIENTS: [Fault("keep clients away", 2, 0.3, 0.2), Fault("cut clients", 0, 0.1, 0.2)],
}


@pytest.mark.mongod
def test_clients_of_every_kind_see_each_write_once_through_faults_of_every_lane():
    outcome = asyncio.run(run(Plan(seed=1, seconds=50, clients=28, writers=3, faults=FEW)))
    assert outcome.passes, (outcome.complaints, outcome.changes, outcome.live)
    assert outcome.faults.total() == 5
    assert outcome.deliveries > 1000
    assert outcome.changes.resets == 0
    assert len(outcome.clients) == len(CHANGES) + len(LIVE)


@pytest.mark.parametrize("lane", [MONGO, SERVERS, CLIENTS])
def test_schedule_follows_from_the_seed_and_each_deck_has_every_kind(lane):
    count = len(deck(lane))
    first, again, other = (list(itertools.islice(schedule(seed, lane), 2 * count)) for seed in (7, 7, 8))
    assert first == again != other
    for half in (first[:count], first[count:]):
        assert sorted(fault.kind for fault in half) == sorted(deck(lane))
    assert all(KINDS[each.kind].shortest <= each.seconds <= KINDS[each.kind].longest for each in first)


def test_every_kind_of_fault_can_be_done():
    faults = Faults.__new__(Faults)
    assert list(faults.actions()) == list(KINDS)


def test_no_id_of_a_document_reads_as_another_one():
    texts = [keys.text(keys.make(writer, number)) for writer in (1, 2, 900) for number in range(100)]
    assert len(set(texts)) == len(texts)
    assert {b"null", b"true", b"false", b'{"w":1,"at":{"n":5}}', b'"s1-4"'} <= set(texts)
