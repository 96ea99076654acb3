"""Clients that read nothing: what the kernel holds for each is bounded, and is given back when one is cut."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import socket
import struct
import termios
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from brook.delivery.subscriber import Subscriber
from brook.event import Batch
from brook.settings import Settings
from handlers import listening
from handlers.descriptors import Descriptors
from tests.support.events import after, events
from tests.support.fakes import until
from tests.support.logs import build_service

REQUEST = b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n"

# The bound in docs/resume.md: twice SO_SNDBUF, as the kernel's own structures count too.
KERNEL_BYTES = 512 * 1024

# What such a client has before it takes no more: it never acknowledges more than its own buffer has.
UNSENT_BYTES = 128 * 1024


@asynccontextmanager
async def serving(**options) -> AsyncIterator[tuple[object, int]]:
    """The list of subscribers and the port of a server that listens as `server.py` does."""
    service = build_service(**options)
    settings = Settings(host="127.0.0.1", port=0, **options)
    server = listening.listen(settings, service.app, Descriptors.of_this_process())
    keeper = asyncio.create_task(service.keeper.run())
    try:
        yield service.subscribers, server.port
    finally:
        server.stop()
        for subscriber in list(service.subscribers):
            subscriber.connection.close()
        await server.close_all_connections()
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A client's socket, with a small buffer: what it does not read stays on the server's side."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        yield client


async def joined(client: socket.socket, subscribers, port: int) -> Subscriber:
    client.connect(("127.0.0.1", port))
    client.sendall(REQUEST)
    await until(lambda: len(subscribers) == 1)
    [subscriber] = subscribers
    return subscriber


def held(subscriber: Subscriber) -> int:
    """Bytes that the kernel holds for a client: written, and not acknowledged."""
    taken = fcntl.ioctl(subscriber.connection.socket.fileno(), termios.TIOCOUTQ, b"\0" * 4)
    return struct.unpack("i", taken)[0]


def publish(subscribers, first: int, count: int, size: int) -> None:
    subscribers.publish(Batch(tuple(events(first, first + count - 1, size)), after(first + count - 1)))


@pytest.mark.parametrize("size", [200, 300_000], ids=["small events", "large events"])
def test_kernel_holds_little_for_a_client_that_reads_nothing(silent, size):
    async def scenario() -> None:
        async with serving(queue_max_bytes=2**30) as (subscribers, port):
            subscriber = await joined(silent, subscribers, port)
            for number in range(101, 141):
                publish(subscribers, number * 1000, max(1, 200_000 // size), size)
                await asyncio.sleep(0)
            assert subscriber.queued_bytes > 4 * KERNEL_BYTES, "nothing was left to hold"
            assert 0 < held(subscriber) <= UNSENT_BYTES
            # The bound for those that acknowledge nothing, too: their network is gone.
            sent = subscriber.connection.socket
            assert sent.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= KERNEL_BYTES

    asyncio.run(scenario())


def test_socket_of_a_client_that_is_cut_is_reset_so_that_nothing_stays_behind(silent, caplog):
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        async with serving(write_timeout_seconds=0.2, queue_max_bytes=2**30) as (subscribers, port):
            subscriber = await joined(silent, subscribers, port)
            publish(subscribers, 101, 10, 200_000)
            assert subscriber.waiting
            await until(lambda: len(subscribers) == 0)
            ended = silent.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            assert ended == errno.ECONNRESET, "what the client never read still waits for it"

    asyncio.run(scenario())
    assert "write-timeout" in caplog.text


def test_client_over_its_bound_that_does_not_even_take_the_goodbye_is_logged_with_the_first_reason(
    silent, caplog
):
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        async with serving(write_timeout_seconds=0.2, queue_max_bytes=2**16) as (subscribers, port):
            await joined(silent, subscribers, port)
            for number in range(101, 121):
                publish(subscribers, number, 1, 200_000)
            await until(lambda: len(subscribers) == 0)

    asyncio.run(scenario())
    assert "slow-consumer" in caplog.text
    assert "write-timeout" not in caplog.text


@pytest.mark.parametrize(
    ("level", "option", "value"),
    [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 14_000),
    ],
    ids=["no delay", "gives up on a client that has vanished"],
)
def test_accepted_sockets_have_the_options_of_the_listening_one(silent, level, option, value):
    async def scenario() -> None:
        async with serving(write_timeout_seconds=7) as (subscribers, port):
            subscriber = await joined(silent, subscribers, port)
            assert subscriber.connection.socket.getsockopt(level, option) == value

    asyncio.run(scenario())
