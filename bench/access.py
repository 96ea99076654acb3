"""The cost of access rules: `python -m bench.access`.

Compares this server without rules and with them, in one run: connections of clients that have tokens of their
own, and deliveries to clients that share a rule.
"""

from __future__ import annotations

import json
import socket
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bench import rounds
from bench.database import Database
from bench.scenarios import Delivery
from bench.servers import Brook, Running

SECRET = b"s" * 64
CONFIGURATION = """
max_connections_per_subject = 100000
[access]
algorithms = ["{algorithm}"]
key_file = "key"
query_token = true
[streams.mine]
namespace = "{namespace}"
filter = {{ owner = "$claims.sub" }}
[streams.all]
namespace = "{namespace}"
filter = {{ n = {{ "$gte" = 0 }} }}
"""


class Guarded(Brook):
    """This server with rules, and the key of its tokens."""

    name = "guarded"
    title = "Babbling Brook with access rules"

    def __init__(self, algorithm: str) -> None:
        super().__init__()
        self.algorithm = algorithm
        self._private: Any = SECRET
        if algorithm == "RS256":
            self._private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        elif algorithm == "ES256":
            self._private = ec.generate_private_key(ec.SECP256R1())

    def token(self, subject: str) -> str:
        claims = {"sub": subject, "exp": int(time.time()) + 3600}
        return jwt.encode(claims, self._private, self.algorithm)

    def configure(self, folder: Path, database: Database) -> None:
        """Write the configuration for a database."""
        key = self._private
        if self.algorithm != "HS256":
            key = key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        (folder / "key").write_bytes(key)
        namespace = f"{database.name}.{database.collection}"
        text = CONFIGURATION.format(algorithm=self.algorithm, namespace=namespace)
        (folder / "brook.toml").write_text(text)
        self.arguments = ("--config", str(folder / "brook.toml"))


def requests_with_tokens(server: Guarded, clients: int) -> list[bytes]:
    return [
        request("/stream/mine", f"Authorization: Bearer {server.token(f'u{number}')}\r\n")
        for number in range(clients)
    ]


def requests_with_filters(clients: int) -> list[bytes]:
    """The same subscriptions, as the clients themselves would ask for them."""
    return [
        request("/stream?filter=" + quote(json.dumps({"owner": f"u{number}"})), "")
        for number in range(clients)
    ]


def request(target: str, headers: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode()


def connect(uri: str, server: Brook, requests: list[bytes]) -> tuple[float, float]:
    """CPU of the server and time for each client until it has its opening, in microseconds."""
    with Database(uri) as database, tempfile.TemporaryDirectory() as folder:
        if isinstance(server, Guarded):
            server.configure(Path(folder), database)
        with Running(server, database) as running:
            connections = []
            began, used = time.monotonic(), running.cpu_seconds()
            try:
                for start in range(0, len(requests), 200):
                    group = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(200)]
                    connections += group
                    for connection, data in zip(group, requests[start : start + 200], strict=True):
                        connection.sendall(data)
                    for connection in group:
                        assert b" 200 OK" in connection.recv(4096)
                seconds, used = time.monotonic() - began, running.cpu_seconds() - used
            finally:
                for connection in connections:
                    connection.close()
    return used / len(requests) * 1e6, seconds / len(requests) * 1e6


def deliver(uri: str, guarded: bool) -> float:
    """CPU of the server for each delivery to 1,000 clients, in microseconds."""
    path = "/stream?filter=" + quote('{"n":{"$gte":0}}')
    server = Brook()
    with tempfile.TemporaryDirectory() as folder:
        if guarded:
            server = _ConfiguredLater(Path(folder))
            path = f"/stream/all?access_token={server.token('u')}"
        figures = Delivery(clients=1000, events=300, path=path).measure(server, uri)
    assert not figures["faults"], figures["faults"]
    cpu: float = figures["cpu_us"]
    return cpu


class _ConfiguredLater(Guarded):
    """Writes its configuration when the database is known."""

    def __init__(self, folder: Path) -> None:
        super().__init__("HS256")
        self._folder = folder

    def start(self, place: Any) -> Any:
        self.configure(self._folder, place.database)
        return super().start(place)


def compare(uri: str, clients: int) -> dict[str, float]:
    """All figures of one round."""
    cpu, took = connect(uri, Brook(), requests_with_filters(clients))
    figures = {"connect, own filters": cpu, "connect, own filters, elapsed": took}
    for algorithm in ("HS256", "ES256", "RS256"):
        server = Guarded(algorithm)
        used, seconds = connect(uri, server, requests_with_tokens(server, clients))
        figures[f"connect, {algorithm}"] = used
        figures[f"connect, {algorithm}, elapsed"] = seconds
        figures[f"connect, {algorithm}, times the CPU"] = used / cpu
        figures[f"connect, {algorithm}, times as slow"] = seconds / took
    without, ruled = deliver(uri, guarded=False), deliver(uri, guarded=True)
    return figures | {
        "delivery": without,
        "delivery, with rules": ruled,
        "delivery, times": ruled / without,
    }


if __name__ == "__main__":
    rounds.run(__doc__, compare)
