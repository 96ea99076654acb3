"""Sockets of clients that vanish, dawdle and babble; the others must not notice."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import weakref
from contextlib import closing

import psutil
import pytest

from brook.delivery.subscriber import State
from tests.support.events import key
from tests.support.fakes import dechunk, until
from tests.support.raw_client import Parser, RawClient
from tests.support.server import Server, serving

REQUEST = b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
QUARTER_MEGABYTE = 250_000

# What a client's kernel takes on its behalf while it does not read.
SMALL_BUFFER = 32_768


class Rude:
    """A client that says and reads exactly what it is told to."""

    def __init__(self, server: Server, *, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(("127.0.0.1", server.port))
        self.socket.setblocking(False)
        self.received = b""

    async def say(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def read(self, most: int = 65536, seconds: float = 20) -> bytes:
        """Some of what has come; empty at the end of the connection."""
        async with asyncio.timeout(seconds):
            try:
                data = await asyncio.get_running_loop().sock_recv(self.socket, most)
            except ConnectionResetError:
                data = b""
        self.received += data
        return data

    async def read_until(self, end: bytes) -> None:
        while end not in self.received:
            assert await self.read(), "the connection ended"

    def reset(self) -> None:
        """Vanish: what was sent is lost, and the other side is told with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    def body(self) -> tuple[bytes, bool]:
        """What the stream said, and whether it was ended as it should."""
        return dechunk(self.received.partition(b"\r\n\r\n")[2])


async def bystander(server: Server) -> RawClient:
    return await (await RawClient(server.port).connect()).opened()


async def hears_all(server: Server, client: RawClient) -> None:
    """A bystander gets everything since it came, whatever else happens."""
    server.publish()
    while not client.events or client.events[-1].id != key(server.number):
        assert (await client.next()).event == "message"
    assert [event.id for event in client.events] == [key(n) for n in range(101, server.number + 1)]


def scenario_with(scenario, **options) -> None:
    async def run() -> None:
        async with serving(**options) as server:
            with closing(await bystander(server)) as client:
                await scenario(server)
                await hears_all(server, client)
                await until(lambda: len(server.list) == 1)

    asyncio.run(run())


def alone_with(scenario, **options) -> None:
    """For what would be much for a bystander too."""

    async def run() -> None:
        async with serving(**options) as server:
            await scenario(server)

    asyncio.run(run())


# -- clients that vanish ---------------------------------------------------------------------------


@pytest.mark.parametrize("leave", [Rude.reset, Rude.close], ids=["reset", "closed"])
@pytest.mark.parametrize("after_bytes", [0, 1, 100, 400, 450])
def test_client_that_vanishes_in_the_middle_of_anything_is_forgotten(leave, after_bytes):
    async def scenario(server: Server) -> None:
        client = Rude(server)
        await client.say(REQUEST)
        while len(client.received) < after_bytes:
            await client.read(after_bytes - len(client.received))
            server.publish()
        leave(client)
        for _ in range(10):
            server.publish(3, 1000)
            await asyncio.sleep(0)

    scenario_with(scenario)


@pytest.mark.parametrize("leave", [Rude.reset, Rude.close], ids=["reset", "closed"])
def test_client_that_vanishes_while_much_waits_for_it_is_forgotten(leave):
    async def scenario(server: Server) -> None:
        client = Rude(server, receive_buffer=SMALL_BUFFER)
        await client.say(REQUEST)
        await client.read_until(b"\n\n")
        mine = server.subscribers()[-1]
        while not mine.queued_bytes:
            server.publish(1, QUARTER_MEGABYTE)
            await asyncio.sleep(0)
        leave(client)
        await until(lambda: mine.state is State.GONE)
        assert not mine.queued_bytes

    scenario_with(scenario)


@pytest.mark.parametrize("part", [b"", b"G", b"GET /stream HTTP/1.1\r\n", REQUEST[:-1]], ids=repr)
@pytest.mark.parametrize("leaves", [True, False])
def test_half_a_request_disturbs_nobody(part, leaves):
    async def scenario(server: Server) -> None:
        client = Rude(server)
        await client.say(part)
        if leaves:
            client.reset()
        server.publish()
        with closing(await bystander(server)):
            server.publish()
        assert len(server.list) <= 2
        client.close()

    scenario_with(scenario)


def test_request_that_comes_byte_by_byte_is_served():
    async def scenario(server: Server) -> None:
        client = Rude(server)
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in REQUEST:
            await client.say(bytes([byte]))
            await asyncio.sleep(0)
        await client.read_until(b"\n\n")
        client.close()

    scenario_with(scenario)


def test_request_whose_client_has_left_by_the_time_it_is_read_joins_nobody():
    async def scenario(server: Server) -> None:
        for leave in (Rude.close, Rude.reset):
            for _ in range(20):
                client = Rude(server)
                await client.say(REQUEST)
                leave(client)
        server.publish(1, 1000)

    scenario_with(scenario)


# -- clients that babble ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [b"\r\n", b"x", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\0" * 5000, REQUEST * 200],
    ids=["a line end", "a byte", "a request", "thousands of bytes", "hundreds of requests"],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_client_that_says_more_than_its_request_is_shown_out(more, at_once):
    """An event stream's client has nothing more to say."""

    async def scenario(server: Server) -> None:
        client = Rude(server)
        if at_once:
            await client.say(REQUEST + more)
        else:
            await client.say(REQUEST)
            await client.read_until(b"\n\n")
            await client.say(more)
        while await client.read():
            pass
        client.close()

    scenario_with(scenario)


def test_client_that_never_stops_babbling_is_shown_out_and_costs_nothing():
    async def scenario(server: Server) -> None:
        client = Rude(server)
        await client.say(REQUEST)

        async def babble() -> None:
            for _ in range(10_000):
                await client.say(b"babble " * 1000)
                await asyncio.sleep(0)

        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await babble()
        client.close()

    scenario_with(scenario)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\xaa" * 500,
        b"SSH-2.0-client\r\n",
        b"GET\r\n\r\n",
        b"GET /stream HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET /stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
        b"GET /stream HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /stream HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /stream HTTP/9.9\r\n\r\n",
    ],
    ids=lambda nonsense: repr(nonsense[:25]),
)
def test_what_is_no_request_is_refused_and_disturbs_nobody(nonsense):
    async def scenario(server: Server) -> None:
        client = Rude(server)
        await client.say(nonsense)
        client.socket.shutdown(socket.SHUT_WR)
        while await client.read():
            pass
        assert client.received[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 413")
        client.close()

    scenario_with(scenario)


def test_connection_that_was_used_for_another_request_can_become_a_stream():
    async def scenario(server: Server) -> None:
        client = Rude(server)
        await client.say(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await client.read_until(b'{"status": "ok"}')
        client.received = b""
        await client.say(REQUEST)
        await client.read_until(b"\n\n")
        server.publish()
        await client.read_until(key(server.number).encode())
        client.close()

    scenario_with(scenario)


# -- clients that dawdle ---------------------------------------------------------------------------


def test_client_that_reads_slowly_gets_everything_once_and_in_order():
    async def scenario(server: Server) -> None:
        client = Rude(server, receive_buffer=SMALL_BUFFER)
        await client.say(REQUEST)
        await client.read_until(b"\n\n")
        first = server.number + 1
        slow = server.subscribers()[-1]
        waited = 0
        for _ in range(32):
            server.publish(1, QUARTER_MEGABYTE)
            server.publish(50, 100)
            waited += slow.waiting
            await client.read(100_000)
        assert waited
        while key(server.number).encode() not in client.received[-200:]:
            assert await client.read(1_000_000)
        content, ended = client.body()
        assert not ended
        heard = [event.id for event in Parser().feed(content)]
        assert heard == [key(number) for number in range(first, server.number + 1)]
        client.close()

    scenario_with(scenario, queue_max_bytes=100_000_000)


@pytest.mark.parametrize("size", [900, 3000])
def test_client_whose_socket_is_full_to_the_last_byte_is_not_given_up(size):
    """The kernel then takes nothing at all of the next event, which is no reason to close."""

    async def scenario(server: Server) -> None:
        client = Rude(server, receive_buffer=SMALL_BUFFER)
        await client.say(REQUEST)
        await client.read_until(b"\n\n")
        [slow] = server.subscribers()
        first = server.number + 1
        while not slow.waiting:
            assert slow.state is State.LIVE
            server.publish(1, size)
        server.publish()
        while key(server.number).encode() not in client.received[-200:]:
            assert await client.read(1_000_000)
        heard = [event.id for event in Parser().feed(client.body()[0])]
        assert heard == [key(number) for number in range(first, server.number + 1)]
        client.close()

    alone_with(scenario, queue_max_bytes=100_000_000)


@pytest.mark.parametrize("dawdles", [True, False])
def test_client_that_catches_up_with_megabytes_gets_them_all_and_goes_on_live(dawdles):
    async def scenario(server: Server) -> None:
        first = server.number
        for _ in range(32):
            server.publish(1, QUARTER_MEGABYTE)
            server.publish(100, 100)
        client = Rude(server, receive_buffer=SMALL_BUFFER if dawdles else None)
        last = key(first).encode()
        await client.say(REQUEST[:-2] + b"Last-Event-ID: " + last + b"\r\n\r\n")
        await client.read_until(b"retry")
        behind = [one for one in server.subscribers() if one.state is not State.LIVE]
        for _ in range(50):
            server.publish()
            await asyncio.sleep(0)
            for one in behind:
                assert one.queued_bytes < 2_000_000, "copied into the queue instead of read on demand"
        while key(server.number).encode() not in client.received[-200:]:
            assert await client.read(1_000_000)
        server.publish()
        await client.read_until(key(server.number).encode())
        heard = [event.id for event in Parser().feed(client.body()[0])]
        assert heard == [key(number) for number in range(first + 1, server.number + 1)]
        client.close()

    alone_with(scenario)


def test_client_over_its_bound_hears_why_in_a_body_that_is_whole():
    async def scenario(server: Server) -> None:
        client = Rude(server, receive_buffer=SMALL_BUFFER)
        await client.say(REQUEST)
        await client.read_until(b"\n\n")
        first = server.number + 1
        slow = server.subscribers()[-1]
        for _ in range(200):
            server.publish(1, 100_000)
            # The bystander reads; the other one does not.
            await asyncio.sleep(0.001)
            assert slow.queued_bytes <= 500_000 + 200_000
            if slow.state is State.CLOSING:
                break
        assert slow.state is State.CLOSING
        while await client.read(1_000_000):
            pass
        content, ended = client.body()
        assert ended
        *heard, bye = Parser().feed(content)
        assert [event.id for event in heard] == [key(n) for n in range(first, first + len(heard))]
        assert (bye.event, bye.data) == ("bye", '{"reason":"slow-consumer"}')
        client.close()

    scenario_with(scenario, queue_max_bytes=500_000)


def test_client_that_takes_nothing_for_too_long_is_cut_off():
    """By the list or by the kernel: both watch it."""

    async def scenario(server: Server) -> None:
        client = Rude(server, receive_buffer=SMALL_BUFFER)
        await client.say(REQUEST)
        await client.read_until(b"\n\n")
        slow = server.subscribers()[-1]
        while not slow.waiting:
            server.publish(1, QUARTER_MEGABYTE)
            await asyncio.sleep(0.001)
        await until(lambda: slow.state is State.GONE)
        client.close()

    scenario_with(scenario, queue_max_bytes=100_000_000, write_timeout_seconds=1)


# -- nothing is left -------------------------------------------------------------------------------


def test_connected_client_has_no_task_of_its_own():
    """To wake one up for each delivery is what costs most with thousands of clients."""

    async def scenario() -> None:
        async with serving(heartbeat_seconds=0.1) as server:
            with closing(await bystander(server)) as client:
                tasks = len(asyncio.all_tasks())
                clients = [Rude(server) for _ in range(50)]
                for one in clients:
                    await one.say(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await until(lambda: len(server.list) == 51)
                server.publish(2)
                # Those that read the requests end with them.
                await until(lambda: len(asyncio.all_tasks()) <= tasks)
                assert len(server.list) == 51
                for one in clients:
                    Rude.close(one)
                await hears_all(server, client)

    asyncio.run(scenario())


def test_a_thousand_clients_leave_no_subscriber_no_task_and_no_file_behind():
    async def scenario() -> None:
        async with serving(heartbeat_seconds=0.1) as server:
            with closing(await bystander(server)) as client:
                process = psutil.Process()
                tasks = len(asyncio.all_tasks())
                files = process.num_fds()
                references = []
                for turn in range(20):
                    clients = [Rude(server) for _ in range(50)]
                    for number, one in enumerate(clients):
                        since = b"Last-Event-ID: " + key(90 + number % 20).encode() + b"\r\n"
                        version = b"HTTP/1.0" if number % 3 else b"HTTP/1.1"
                        await one.say(
                            b"GET /stream " + version + b"\r\nHost: localhost\r\n" + since + b"\r\n"
                        )
                    await until(lambda: len(server.list) == 51)
                    references += [weakref.ref(one) for one in server.subscribers()[1:]]
                    server.publish(2)
                    for number, one in enumerate(clients):
                        (Rude.reset if number % 2 else Rude.close)(one)
                    server.publish(2, 1000 * turn)
                    await until(lambda: len(server.list) == 1)
                await hears_all(server, client)
                await until(lambda: len(asyncio.all_tasks()) <= tasks)
                await until(lambda: process.num_fds() <= files)
                gc.collect()
                assert len(references) == 1000
                assert [reference() for reference in references if reference() is not None] == []

    asyncio.run(scenario())


def test_subscriber_is_freed_when_its_client_leaves_without_waiting_for_the_collector():
    async def scenario() -> None:
        async with serving() as server:
            gc.disable()
            try:
                client = Rude(server)
                await client.say(REQUEST)
                await client.read_until(b"\n\n")
                [subscriber] = server.subscribers()
                left = weakref.ref(subscriber)
                del subscriber
                client.close()
                await until(lambda: left() is None)
            finally:
                gc.enable()

    asyncio.run(scenario())
