"""The stream through nginx: as it comes out of the box, with HTTP/1.1, and in front of two servers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.crowd import Crowd, Writers
from tests.support.raw_client import RawClient

CLIENTS = 60

CONFIGURATION = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream brook {{ {servers} }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://brook;
            {options}
        }}
    }}
}}
"""

OPTIONS = {
    "as it comes": "",
    "with HTTP/1.1": 'proxy_http_version 1.1; proxy_set_header Connection "";',
}

Start = Callable[..., int]


@pytest.fixture
def start_nginx(tmp_path: Path) -> Iterator[Start]:
    """Starts nginx in front of the given ports; returns its own."""
    processes = []

    def start(*ports: int, options: str) -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        # A server that was away must be tried at once when it is back.
        servers = " ".join(f"server 127.0.0.1:{upstream} max_fails=0;" for upstream in ports)
        user = "user root;" if os.geteuid() == 0 else ""
        text = CONFIGURATION.format(user=user, folder=tmp_path, servers=servers, port=port, options=options)
        path = tmp_path / "nginx.conf"
        path.write_text(text)
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program, "nginx is missing: make system"
        command = [program, "-p", str(tmp_path), "-c", str(path), "-e", str(tmp_path / "error.log")]
        processes.append(subprocess.Popen(command))
        until = time.monotonic() + 20
        while True:
            assert processes[-1].poll() is None, _log(tmp_path)
            assert time.monotonic() < until, _log(tmp_path)
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                return port
            time.sleep(0.02)

    yield start
    for process in processes:
        process.terminate()
        process.wait()


def _log(folder: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        return (folder / "error.log").read_text()
    return "nginx wrote no log"


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_events_and_keep_alives_pass_nginx_at_once(options, sandbox, database, start_server, start_nginx):
    server = start_server(
        "--mongo", sandbox.uri, "--database", database.name, "--heartbeat-seconds", "0.2"
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
    arguments = ("--mongo", sandbox.uri, "--database", database.name, "--retry-ms", "50")
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
