"""`/metrics` of servers that run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests.support.metrics import Scrape
from tests.support.ports import free_port
from tests.support.raw_client import RawClient


def test_clients_their_ends_and_refusals_are_counted(start_server):
    server = start_server("--demo")

    async def listen() -> None:
        with closing(await RawClient(server.port).connect()) as client:
            await client.next()
            now = await asyncio.to_thread(Scrape, server.url)
            assert now.sum("brook_subscribers") == now.sum("brook_subscribers_live") == 1
            assert now.sum("brook_connections_total") == 1
            assert now.sum("brook_deliveries_total") == 1
            assert now.sum("brook_sent_bytes_total") == len(b"retry: 3000\n\nid: demo-1\ndata: Sending 1\n\n")
            assert now.sum("brook_disconnects_total") == 0

    asyncio.run(listen())
    for path in ("/stream?nonsense=1", "/nothing"):
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(server.url + path, timeout=20)
    server.wait_for("client left")
    after = Scrape(server.url)
    assert after.sum("brook_subscribers") == 0
    assert after.sum("brook_disconnects_total", reason="client-left") == 1
    assert after.sum("brook_disconnects_total") == 1
    assert after.sum("brook_deliveries_total") == 1
    assert after.sum("brook_refusals_total", code="not-found") == 1
    assert after.sum("brook_refusals_total") == 2
    assert after.sum("brook_ready") == after.sum("brook_source_up") == after.sum("brook_worker_up") == 1


def test_scraper_chooses_the_format(start_server):
    server = start_server("--demo")
    assert Scrape(server.url).content_type.startswith("text/plain")
    request = urllib.request.Request(
        server.url + "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.read().endswith(b"# EOF\n")


def test_metrics_can_have_a_port_of_their_own(start_server):
    port = free_port()
    server = start_server("--demo", "--metrics-port", str(port))
    assert Scrape(f"http://127.0.0.1:{port}").sum("brook_ready") == 1
    for url in (f"{server.url}/metrics", f"http://127.0.0.1:{port}/stream"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(url, timeout=20)


def test_each_process_tells_its_own_numbers_whichever_is_asked(start_server):
    server = start_server("--demo", "--processes", "3")

    async def listen() -> None:
        clients = [await RawClient(server.port).connect() for _ in range(12)]
        for _ in range(5):
            now = await asyncio.to_thread(Scrape, server.url)
            assert now.values("brook_worker_up") == [1, 1, 1]
            assert now.sum("brook_subscribers") == 12
            assert len(now.values("brook_subscribers")) == 3
        for client in clients:
            client.close()

    asyncio.run(listen())


def sockets_of(server) -> list[str]:
    children = psutil.Process(server.pid).children()
    return [one.laddr for child in children for one in child.net_connections("unix") if "brook-" in one.laddr]


def test_process_that_hangs_is_named_and_the_others_are_told(start_server):
    server = start_server("--demo", "--processes", "2")
    stopped, _ = psutil.Process(server.pid).children()
    os.kill(stopped.pid, signal.SIGSTOP)
    try:
        for _ in range(20):  # the system may give the connection to the process that hangs
            try:
                now = Scrape(server.url, seconds=4)
            except OSError:
                continue
            break
        assert sorted(now.values("brook_worker_up")) == [0, 1]
        assert len(now.values("brook_subscribers")) == 1
    finally:
        os.kill(stopped.pid, signal.SIGCONT)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL])
def test_processes_leave_no_folder_behind(start_server, signal_number):
    server = start_server("--demo", "--processes", "2")
    children = psutil.Process(server.pid).children()
    folder = Path(sockets_of(server)[0]).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    os.kill(server.pid, signal_number)
    psutil.wait_procs(children, 20)
    server.process.wait(20)
    assert not folder.exists()


def test_log_as_json_has_the_same_lines(start_server):
    server = start_server("--demo", "--log-format", "json")

    async def listen() -> None:
        with closing(await RawClient(server.port, "/stream?since=demo-1").connect()) as client:
            await client.next()

    asyncio.run(listen())
    server.wait_for("client left")
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.log]
    [left] = [line for line in lines if line["message"].startswith("client left after")]
    assert left["reason"] == "client-left"
    assert left["events"] == 1
    assert left["resumed"] is True
    assert left["seconds"] > 0
    assert not [line for line in server.log if "demo-1" in line]
