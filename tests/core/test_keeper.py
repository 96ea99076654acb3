"""The end of connections that the server ends itself: spread over time."""

from __future__ import annotations

import asyncio

from brook.delivery.subscriber import CloseReason
from tests.support.fakes import Harness, until


def start(**options) -> Harness:
    harness = Harness(**options)
    harness.start()
    return harness


def closed(clients) -> int:
    return sum(client.connection.closed for client in clients)


def test_goodbyes_of_a_drain_are_spread_over_its_time():
    harness = start()
    clients = [harness.connect() for _ in range(400)]

    async def scenario() -> list[int]:
        draining = asyncio.create_task(harness.keeper.drain(CloseReason.SHUTDOWN, 1.0))
        counts = []
        while closed(clients) < len(clients):
            await asyncio.sleep(0.05)
            counts.append(closed(clients))
            for client in clients:
                if client.connection.closed:
                    harness.list.remove(client.subscriber)
        await asyncio.wait_for(draining, 5)
        return counts

    counts = asyncio.run(scenario())
    steps = [later - earlier for earlier, later in zip([0, *counts], counts, strict=False)]
    assert max(steps) < 200, "no herd"
    assert len(counts) >= 8


def test_few_clients_are_told_at_once():
    harness = start()
    clients = [harness.connect() for _ in range(3)]

    async def scenario() -> None:
        draining = asyncio.create_task(harness.keeper.drain(CloseReason.SHUTDOWN, 60))
        await until(lambda: closed(clients) == 3, seconds=1)
        for client in clients:
            harness.list.remove(client.subscriber)
        await draining

    asyncio.run(scenario())


def ages(harness: Harness, seconds: float) -> int:
    """Let time pass; the number of clients that are still there."""
    harness.clock.now += seconds
    harness.keeper._rotate()
    for subscriber in list(harness.list):
        if subscriber.connection.closed:
            harness.list.remove(subscriber)
    return len(harness.list)


def test_clients_are_asked_to_reconnect_between_half_of_the_age_and_all_of_it():
    harness = start(connection_max_seconds=100)
    clients = [harness.connect() for _ in range(300)]
    for client in clients:
        client.subscriber.joined = harness.clock.now
    assert ages(harness, 49) == 300
    left = [ages(harness, 10) for _ in range(5)]
    assert 200 < left[0] < 300
    assert 80 < left[2] < 220, "spread evenly"
    assert ages(harness, 2) == 0
    assert {client.subscriber.close_reason for client in clients} == {CloseReason.MAX_AGE}
    assert all(client.heard()[-1].data == '{"reason":"max-age"}' for client in clients)


def test_no_age_is_too_old_unless_the_operator_says_so():
    harness = start()
    client = harness.connect()
    client.subscriber.joined = harness.clock.now
    assert ages(harness, 1e6) == 1
