"""The stream through nginx: as it comes out of the box, with HTTP/1.1, and in front of two servers."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import pymongo
import pytest

from sources.sandbox import Sandbox
from tests.support.crowd import Crowd, Writers
from tests.support.live_member import LiveMember
from tests.support.nginx import BEHIND_NGINX, Nginx, new_nginx_fixture, shipped_site  # noqa: F401
from tests.support.raw_client import RawClient

CLIENTS = 60

SITE = """
upstream brook {{ {servers} }}
server {{
    listen 127.0.0.1:{port};
    location / {{
        proxy_pass http://brook;
        {options}
    }}
}}
"""

OPTIONS = {
    "as it comes": "",
    "with HTTP/1.1": 'proxy_http_version 1.1; proxy_set_header Connection "";',
}

RETRY_MS = 700
"""Of the servers: nginx says 3,000 where it has none."""

# The name by which nginx asks: that of the upstream.
NAMED = ("--allowed-host", "brook")

Start = Callable[..., int]


@pytest.fixture
def start_nginx(new_nginx: Callable[[], Nginx]) -> Start:
    """Starts nginx in front of the given ports, with little more than its defaults; returns its own port."""

    def start(*ports: int, options: str) -> int:
        nginx = new_nginx()
        # A server that was away must be tried at once when it is back.
        servers = " ".join(f"server 127.0.0.1:{upstream} max_fails=0;" for upstream in ports)
        nginx.start(SITE.format(servers=servers, port=nginx.port, options=options))
        return nginx.port

    return start


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_events_and_keep_alives_pass_nginx_at_once(options, sandbox, database, start_server, start_nginx):
    server = start_server(
        "--mongo", sandbox.uri, *NAMED, "--database", database.name, "--heartbeat-seconds", "0.2"
    )  # fmt: skip
    port = start_nginx(server.port, options=options)

    async def scenario() -> None:
        for http in ("1.0", "1.1"):
            client = await (await RawClient(port, http=http).connect()).opened()
            assert client.status == 200
            assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert client.headers["cache-control"] == "no-cache, no-transform"
            # One by one: were anything held back until there is more, the next one would not be written.
            for number in range(10):
                database.creatures.insert_one({"http": http, "number": number})
                event = await client.next(5)
                assert f'"number":{number}}}' in event.data
            blocks = len(client.parser.blocks)
            async with asyncio.timeout(5):
                while len(client.parser.blocks) < blocks + 3:
                    await client.read()
            client.close()
            database.creatures.insert_one({"http": http, "number": 10})
            again = await RawClient(port, http=http, last_id=client.parser.last_id).connect()
            assert '"number":10}' in (await again.next(5)).data
            again.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_clients_of_two_servers_resume_on_the_other_one(
    options, sandbox, database, start_server, start_nginx
):
    """No client sticks to a server, and the servers do not know of each other."""
    arguments = ("--mongo", sandbox.uri, *NAMED, "--database", database.name, "--retry-ms", "50")
    servers = [start_server(*arguments) for _ in range(2)]
    port = start_nginx(*(server.port for server in servers), options=options)

    async def restart(server: Any, crowd: Crowd, writers: Writers, *, politely: bool) -> int:
        """How many had to go to the other one while it was away."""
        connects = [member.connects for member in crowd.members]
        if politely:
            assert await asyncio.to_thread(server.stop, signal.SIGTERM) == 0
        else:
            server.kill()
        await crowd.until(lambda member: member.opened)
        await writers.more(100)
        await asyncio.to_thread(server.start)
        return sum(member.connects > before for member, before in zip(crowd.members, connects, strict=True))

    async def scenario() -> None:
        async with Crowd(port, CLIENTS) as crowd:
            with Writers(sandbox.uri, database.name, pause_seconds=0.02) as writers:
                await writers.more(100)
                assert 0 < await restart(servers[0], crowd, writers, politely=False) < CLIENTS
                assert 0 < await restart(servers[1], crowd, writers, politely=True) <= CLIENTS
                truth = await writers.finish()
            await crowd.until_last()
            crowd.check(truth)

    asyncio.run(scenario())


def test_server_that_came_back_is_sent_every_client_as_soon_as_the_other_one_is_gone(start_server, new_nginx):
    """nginx lays off a server that refused a connection, and forgives it when a later request has ended.
    A stream does not end for hours.
    """
    first, second = (start_server("--demo", "--retry-ms", str(RETRY_MS), *BEHIND_NGINX) for _ in range(2))
    nginx = new_nginx()
    nginx.start(shipped_site(nginx.port, first.port, second.port))

    async def opened() -> RawClient:
        client = await (await RawClient(nginx.port).connect()).opened()
        assert client.parser.retry == RETRY_MS, "the server's own stream, not the one for want of a server"
        return client

    async def scenario() -> None:
        first.kill()
        clients = [await opened() for _ in range(3)]
        await asyncio.to_thread(first.start)
        second.kill()
        clients += [await opened() for _ in range(20)]
        for client in clients:
            client.close()

    asyncio.run(scenario())


def test_client_for_whom_nginx_has_no_connection_left_is_told_to_come_back(start_server, new_nginx):
    """nginx answers 500 if it has one for the client and none for the server; a browser gives up on that."""
    server = start_server("--demo", "--retry-ms", str(RETRY_MS), *BEHIND_NGINX)

    async def last_of(port: int) -> int:
        """The first client that is not served: what it is told to wait, or 0 if it is cut off."""
        clients = []
        try:
            while True:
                clients.append(RawClient(port))
                try:
                    await clients[-1].connect()
                except (EOFError, OSError):
                    return 0
                assert clients[-1].status == 200
                retry_ms = (await clients[-1].opened()).parser.retry
                if retry_ms != RETRY_MS:
                    return retry_ms
        finally:
            for client in clients:
                client.close()

    async def scenario() -> None:
        told = []
        # An even number and an odd one: with one of them, the last client is accepted.
        for connections in (20, 21):
            nginx = new_nginx()
            nginx.start(shipped_site(nginx.port, server.port), connections=connections)
            told.append(await last_of(nginx.port))
        assert sorted(told) == [0, 3000]

    asyncio.run(scenario())


MANY = 500


@pytest.mark.timeout(400)
def test_five_hundred_clients_of_two_instances_and_three_nodes_lose_nothing(start_server, new_nginx):
    """Behind `deploy/nginx.conf`, instances are killed and replaced, a node steps down and another is killed.

    Clients of changes get each document once and in order; clients of a live query end with what `find` has.
    """
    with Sandbox(3) as trio, pymongo.MongoClient(trio.uri) as client:
        arguments = (
            "--mongo",
            trio.uri,
            *BEHIND_NGINX,
            "--database",
            "fleet",
            "--retry-ms",
            "300",
            "--drain-seconds",
            "1",
        )
        servers = [start_server(*arguments) for _ in range(2)]
        nginx = new_nginx()
        nginx.start(shipped_site(nginx.port, *(server.port for server in servers)))

        async def disturb(crowd: Crowd, writers: Writers) -> None:
            for server in servers:
                server.kill()
                await writers.more(100)
                await asyncio.to_thread(server.start)
                await crowd.until(lambda member: member.opened)
                assert await asyncio.to_thread(server.stop) == 0
                await writers.more(100)
                await asyncio.to_thread(server.start)
                await crowd.until(lambda member: member.opened)
            with trio.primary().client() as primary:
                primary.admin.command("replSetStepDown", 1, secondaryCatchUpPeriodSecs=1)
            await asyncio.to_thread(trio.primary)
            await writers.more(100)
            killed = trio.primary()
            await asyncio.to_thread(killed.stop, signal.SIGKILL)
            await writers.more(100)
            await asyncio.to_thread(killed.start)

        async def scenario() -> None:
            live = [LiveMember(nginx.port) for _ in range(20)]
            async with Crowd(nginx.port, MANY) as crowd:
                following = [asyncio.create_task(each.run()) for each in live]
                with Writers(trio.uri, "fleet", pause_seconds=0.02) as writers:
                    await writers.more(100)
                    await disturb(crowd, writers)
                    truth = await writers.finish()
                await crowd.until_last(120)
                crowd.check(truth)
                found = {document["_id"]: document for document in client.fleet.creatures.find()}
                async with asyncio.timeout(60):
                    while any(each.documents != found for each in live):
                        assert not any(task.done() for task in following), following
                        await asyncio.sleep(0.05)
                assert all(each.connects > 1 for each in live)
                print(f"\nfleet: {len(truth)} documents, {MANY * len(truth):,} deliveries of changes")
                for task in following:
                    task.cancel()
                await asyncio.gather(*following, return_exceptions=True)
            # The clients would come back, and the test pass without what it is about.
            assert "worker_connections are not enough" not in nginx.log()
            assert "no live upstreams" not in nginx.log()

        asyncio.run(scenario())
