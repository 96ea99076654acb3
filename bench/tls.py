"""Measures what https costs: the server's CPU and memory for each client, beside plain http, in one run.

`python -m bench.tls`. The clients make a real handshake each, and then drop the bytes without decrypting
them: only the server is measured.
"""

from __future__ import annotations

import argparse
import itertools
import os
import selectors
import socket
import ssl
import statistics
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pymongo

from sources.sandbox import Sandbox
from tests.support.certificates import Authority
from tests.support.processes import ServerProcess

REQUEST = b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Crowd:
    """Clients of one server, whose bytes a thread drops."""

    def __init__(self, port: int, count: int, trusted: ssl.SSLContext | None) -> None:
        self.sockets: list[socket.socket] = []
        self.bytes = 0
        self._selector = selectors.DefaultSelector()
        for _ in range(count):
            client: socket.socket = socket.create_connection(("127.0.0.1", port))
            if trusted is not None:
                client = trusted.wrap_socket(client, server_hostname="localhost")
            client.sendall(REQUEST)
            client.recv(1)
            client.setblocking(False)
            self.sockets.append(client)
            self._selector.register(client, selectors.EVENT_READ)
        threading.Thread(target=self._drop, daemon=True).start()

    def settle(self) -> None:
        """Wait until nothing has arrived for half a second."""
        before = -1
        while before != self.bytes:
            before = self.bytes
            time.sleep(0.5)

    def _drop(self) -> None:
        while True:
            for key, _ in self._selector.select():
                try:
                    # As of a bare socket: without decryption.
                    self.bytes += len(socket.socket.recv(key.fileobj, 65536))  # type: ignore[arg-type]
                except BlockingIOError:
                    continue


def measure(
    uri: str, clients: int, events: int, size: int, tls: tuple[str, ...], trusted: ssl.SSLContext | None
) -> dict[str, float]:
    server = ServerProcess(
        "--mongo", uri, "--database", "bench", "--compression", "off", "--heartbeat-seconds", "60", *tls
    )
    server.start()
    try:
        process = psutil.Process(server.pid)
        memory = process.memory_info().rss
        begun = sum(process.cpu_times()[:2])
        crowd = Crowd(server.port, clients, trusted)
        crowd.settle()
        arrived = sum(process.cpu_times()[:2])
        memory = process.memory_info().rss - memory
        with pymongo.MongoClient[dict[str, object]](uri) as mongo:
            for _ in range(events):
                mongo.bench.creatures.insert_one({"pad": "x" * size})
                time.sleep(0.01)
            crowd.settle()
        delivered = sum(process.cpu_times()[:2])
        return {
            "µs of CPU for an arrival": (arrived - begun) / clients * 1e6,
            "µs of CPU for a delivery": (delivered - arrived) / (clients * events) * 1e6,
            "KiB of memory for a client": memory / clients / 1024,
        }
    finally:
        server.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--events", type=int, default=300)
    parser.add_argument("--size", type=int, default=200, help="bytes of a document")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    figures: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, Sandbox() as sandbox:
        authority = Authority(Path(folder))
        certificate, key = authority.issue("bench")
        ways = {
            "http": ((), None),
            "https": (("--tls-cert", str(certificate), "--tls-key", str(key)), authority.trusted()),
        }
        for _, (way, (tls, trusted)) in itertools.product(range(chosen.rounds), ways.items()):
            found = measure(sandbox.uri, chosen.clients, chosen.events, chosen.size, tls, trusted)
            for name, value in found.items():
                figures.setdefault((name, way), []).append(value)
    print(
        f"{chosen.clients} clients, {chosen.events} documents of {chosen.size} bytes, "
        f"{os.cpu_count()} cores\n"
    )
    print("| | http | https | ratio |\n| --- | ---: | ---: | ---: |")
    for name in dict.fromkeys(name for name, _ in figures):
        http, https = (statistics.median(figures[name, way]) for way in ways)
        print(f"| {name} | {http:.1f} | {https:.1f} | {https / http:.2f} |")


if __name__ == "__main__":
    main()
