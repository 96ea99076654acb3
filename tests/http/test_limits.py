"""How many connections clients may have: in all, and from one address, also behind a proxy."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from contextlib import ExitStack, closing

import pytest

from brook.errors import TooManyConnections
from brook.settings import Settings
from handlers.descriptors import REQUESTS
from handlers.limits import Limits
from handlers.proxies import Proxies, counted_as
from tests.support.fakes import until
from tests.support.processes import ServerProcess
from tests.support.raw_client import Parser

# -- whose a connection is -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),  # anybody may write that
        ("203.0.113.7", None, "203.0.113.7"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "127.0.0.1, 198.51.100.1", "198.51.100.1"),  # the client has written the first
        ("10.0.0.1", "198.51.100.1, 10.9.9.9", "198.51.100.1"),  # two proxies
        ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("10.0.0.1", "2001:db8::7", "2001:db8::7"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("2001:db8:1::9", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, nonsense", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1,,", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
    ],
)
def test_client_is_the_nearest_address_that_is_no_proxy(peer, forwarded, client):
    assert Proxies(("10.0.0.0/8", "2001:db8:1::/48")).client(peer, forwarded) == client


def test_header_of_nobody_is_believed_without_a_proxy():
    assert Proxies(()).client("127.0.0.1", "198.51.100.1") == "127.0.0.1"
    assert not Proxies(()).has("127.0.0.1")


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("198.51.100.1", "198.51.100.1"),
        ("::ffff:198.51.100.1", "198.51.100.1"),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.1", ""),
        ("127.9.9.9", ""),
        ("::1", ""),
        ("::ffff:127.0.0.1", ""),
    ],
)
def test_client_counts_with_its_address_or_its_ipv6_network(address, place):
    assert counted_as(address) == place


# -- counting --------------------------------------------------------------------------------------


def in_a_loop(scenario) -> None:
    async def run() -> None:
        scenario()

    asyncio.run(run())


def test_connections_of_one_address_are_bounded_and_those_of_others_are_not_touched():
    def scenario() -> None:
        limits = Limits(Settings(max_connections_per_address=5))
        places = [limits.accept("198.51.100.1") for _ in range(5 + REQUESTS)]
        assert None not in places
        assert limits.accept("198.51.100.1") is None
        assert limits.accept("198.51.100.2") is not None
        assert all(limits.accept("127.0.0.1") is not None for _ in range(100))
        limits.leave(places[0])
        assert limits.accept("198.51.100.1") is not None
        assert not limits.reasons(), "other clients may still come"

    in_a_loop(scenario)


def test_connections_in_all_are_bounded_also_those_of_a_proxy():
    def scenario() -> None:
        limits = Limits(Settings(max_connections=5, trusted_proxy=("10.0.0.1",)))
        places = [limits.accept("10.0.0.1") for _ in range(5 + REQUESTS)]
        assert None not in places
        assert limits.accept("198.51.100.1") is None
        assert limits.reasons()
        limits.leave("")
        assert limits.accept("198.51.100.1") is not None

    in_a_loop(scenario)


def test_streams_are_bounded_before_connections_are_so_that_the_refusal_is_said():
    def scenario() -> None:
        limits = Limits(Settings(max_connections_per_address=2))
        for _ in range(2):
            limits.enter_stream(limits.check_stream("198.51.100.1", None))
        with pytest.raises(TooManyConnections, match="2 streams are open from this address"):
            limits.check_stream("198.51.100.1", None)
        assert limits.accept("198.51.100.1") is not None
        limits.leave_stream("198.51.100.1")
        limits.check_stream("198.51.100.1", None)

    in_a_loop(scenario)


def test_nothing_is_kept_of_addresses_that_have_left():
    limits = Limits(Settings())
    for number in range(1000):
        address = f"198.51.{number // 250}.{number % 250}"
        place = limits.accept(address)
        limits.leave(place)
        limits.enter_stream(limits.check_stream(address, None))
        limits.leave_stream(place)
    assert (len(limits._total_of), len(limits._streams_of), limits._total, limits._streams) == (0, 0, 0, 0)


# -- on the wire -----------------------------------------------------------------------------------


class Client:
    """One connection to a stream, as a proxy would make it for a client."""

    def __init__(self, server: ServerProcess, forwarded: str = "", *, at_once: bool = True) -> None:
        self._server = server
        self._head = "GET /stream HTTP/1.0\r\n" + (f"X-Forwarded-For: {forwarded}\r\n" if forwarded else "")
        self._at_once = at_once

    async def opened(self) -> str:
        """The code of the problem with which it was refused, or nothing."""
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        if not self._at_once:
            self.writer.write(b"GET")
            await asyncio.sleep(0.01)
        self.writer.write((self._head if self._at_once else self._head[3:]).encode() + b"\r\n")
        async with asyncio.timeout(20):
            head = await self.reader.readuntil(b"\r\n\r\n")
            assert b" 200 OK\r\n" in head
            first = await self.reader.readuntil(b"\n\n")
            if b"problem" not in first:
                return ""
            [problem] = Parser().feed(first)
            assert json.loads(problem.data)["status"] == 429
            return json.loads(problem.data)["code"]

    def close(self) -> None:
        self.writer.close()


@pytest.mark.parametrize("at_once", [True, False])
def test_client_behind_a_proxy_has_its_own_share_and_gets_it_back(start_server, at_once):
    server = start_server("--demo", "--trusted-proxy", "127.0.0.1", "--max-connections-per-address", "3")

    async def scenario() -> None:
        with ExitStack() as stack:
            clients = [Client(server, "evil, 198.51.100.1", at_once=at_once) for _ in range(3)]
            for client in clients:
                assert await client.opened() == ""
                stack.callback(client.close)
            refused = Client(server, "198.51.100.1", at_once=at_once)
            assert await refused.opened() == "too-many-connections"
            with closing(refused), closing(other := Client(server, "198.51.100.2")):
                assert await other.opened() == ""

        async def fits() -> bool:
            with closing(again := Client(server, "198.51.100.1")):
                return await again.opened() == ""

        async with asyncio.timeout(20):
            while not await fits():
                await asyncio.sleep(0.02)

    asyncio.run(scenario())
    told = [line for line in server.log if "new clients of 198.51.100.1 are refused" in line]
    assert len(told) == 1
    assert "--max-connections-per-address" in told[0]


def test_server_refuses_more_than_its_connections_and_answers_health_checks(start_server):
    server = start_server("--demo", "--max-connections", "4")

    async def scenario() -> None:
        with ExitStack() as stack:
            for expected in ["", "", "", "", "too-many-connections", "too-many-connections"]:
                client = Client(server)
                assert await client.opened() == expected
                stack.callback(client.close)

            def ready() -> list[str]:
                with pytest.raises(urllib.error.HTTPError) as refused:
                    urllib.request.urlopen(server.url + "/readyz", timeout=20)
                return json.loads(refused.value.read())["reasons"]

            assert await asyncio.to_thread(ready) == ["this server has its maximum number of clients"]
            # More than are accepted, which say nothing: they are closed at once.
            silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(4 * REQUESTS)]
            for _, writer in silent:
                stack.callback(writer.close)
                writer.write(b"GET / HT")
            ended = asyncio.gather(*(reader.read() for reader, _ in silent), return_exceptions=True)
            stack.callback(ended.cancel)
            await until(lambda: sum(reader.at_eof() or bool(reader.exception()) for reader, _ in silent) > 32)

    asyncio.run(scenario())
    assert len([line for line in server.log if "new clients are refused" in line]) == 1
