"""The scenarios. Each takes one measurement of one server and returns the figures by name."""

from __future__ import annotations

import dataclasses
import json
import re
import socket
import statistics
import subprocess
import sys
import time
import urllib.parse
from collections import Counter
from dataclasses import dataclass
from typing import Any

from bench import usage
from bench.database import Cursors, Database, Reader
from bench.load import Load
from bench.servers import ROOT, Brook, Running, Server
from bench.sizes import BATCHES, Sizes

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Clients listen while documents are written."""

    clients: int
    events: int
    together: int = 1
    """Documents in one `insert_many`."""
    interval_seconds: float = 0.01
    """Interval between two `insert_many`."""
    warm_up: int = 20
    """Documents before the measurement, one at a time, which warm up just-in-time compilers."""
    gzip: bool = False
    path: str = ""
    """Path of the stream, if not the server's own."""
    variety: int = 1
    """Number of different values for a `#` in the path."""

    def measure(self, server: Server, uri: str) -> Figures:
        with (
            Database(uri) as database,
            Reader(database) as reader,
            Running(server, database) as running,
            Load(
                running.port,
                clients=self.clients,
                warm_up=self.warm_up,
                events=self.events,
                gzip=self.gzip,
                path=self.path or server.path,
                variety=self.variety,
            ) as load,
        ):
            load.wait_for("open")
            running.settle()
            database.write(range(1, 1 + self.warm_up), 1, self.interval_seconds)
            load.wait_for("warm")
            running.settle()
            seen = len(reader.latencies_ms)
            before = {role: running.cpu_seconds(role) for role in ("server", "bridge")}
            user = usage.user_seconds(running.pids())
            numbers = range(1 + self.warm_up, 1 + self.warm_up + self.events)
            database.write(numbers, self.together, self.interval_seconds)
            report = load.wait_for("done")
            cpu = {role: running.cpu_seconds(role) - before[role] for role in before}
            user = usage.user_seconds(running.pids()) - user
            memory = usage.memory_bytes(running.pids())
            of_database = reader.latencies_ms[seen:]
        deliveries = max(1, report["deliveries"])
        return {
            "deliveries": report["deliveries"],
            "deliveries_per_second": deliveries / max(report["seconds"], 1e-6),
            "cpu_us": cpu["server"] / deliveries * 1e6,
            "change_cpu_us": (cpu["server"] + cpu["bridge"]) / self.events * 1e6,
            "user_us": user / deliveries * 1e6,
            "bridge_us": cpu["bridge"] / deliveries * 1e6,
            "client_us": report["cpu_seconds"] / deliveries * 1e6,
            "p50_ms": report["p50_ms"],
            "p99_ms": report["p99_ms"],
            "max_ms": report["max_ms"],
            "last_ms": (report["last_receipt_us"] - report["first_insert_us"]) / 1000,
            "database_p50_ms": statistics.median(of_database),
            "database_p99_ms": statistics.quantiles(of_database, n=100, method="inclusive")[98],
            "fan_out_p50_ms": report["p50_ms"] - statistics.median(of_database),
            "bytes_per_delivery": report["wire_bytes"] / deliveries,
            "memory_mb": memory / 1e6,
            "faults": faults(report),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """Clients are connected and receive only keep-alives, every 15 seconds."""

    clients: int
    seconds: float = 45

    def measure(self, server: Server, uri: str) -> Figures:
        with Database(uri) as database, Running(server, database) as running:
            before = usage.memory_bytes(running.pids())
            with Load(running.port, clients=self.clients, hold=self.seconds, path=server.path) as load:
                opened = time.monotonic()
                load.wait_for("open")
                opened = time.monotonic() - opened
                running.settle()
                memory = usage.memory_bytes(running.pids()) - before
                began, used = time.monotonic(), running.cpu_seconds()
                report = load.wait_for("done")
                used = running.cpu_seconds() - used
                seconds = time.monotonic() - began
        figures = {
            "connection_kb": memory / self.clients / 1000,
            "keep_alives": report["keep_alives"],
            "open_seconds": opened,
            "faults": faults(report),
        }
        # A server that sends no keep-alives cannot be compared.
        return figures | ({"keep_alive_percent": used / seconds * 100} if report["keep_alives"] else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFilters:
    """Each client has its own filter, and each change matches one of them."""

    clients: int
    changes: int

    def measure(self, server: Server, uri: str) -> Figures:
        alone, together = self._change_cpu_us(uri, 1), self._change_cpu_us(uri, self.clients)
        return {"change_cpu_us": together, "times_alone": together / alone, "faults": {}}

    def _change_cpu_us(self, uri: str, clients: int) -> float:
        one, others = filtered({"owner": -1}), filtered('{"owner":#}')
        with (
            Database(uri) as database,
            Running(Brook(), database) as running,
            Load(running.port, clients=clients, path=others, hold=60) as crowd,
            Load(running.port, clients=1, path=one, events=self.changes) as load,
        ):
            crowd.wait_for("open")
            load.wait_for("open")
            running.settle()
            before = running.cpu_seconds()
            database.write(range(1, 1 + self.changes), 1, 0.005, owner=-1)
            report = load.wait_for("done")
            used = running.cpu_seconds() - before
        if found := faults(report):
            raise SystemExit(f"the filtered client received the wrong events: {found}")
        return used / self.changes * 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyFilters:
    """The same deliveries without filters and with distinct filters that all match."""

    delivery: Delivery
    filters: int = 100

    def measure(self, server: Server, uri: str) -> Figures:
        path = filtered('{"size":{"$gte":-#}}')
        many = dataclasses.replace(self.delivery, path=path, variety=self.filters)
        alone, figures = self.delivery.measure(server, uri), many.measure(server, uri)
        return figures | {
            "times_unfiltered": figures["cpu_us"] / alone["cpu_us"],
            "faults": dict(Counter(alone["faults"]) + Counter(figures["faults"])),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """The server reads a long log into the history, without clients."""

    changes: int

    def measure(self, server: Server, uri: str) -> Figures:
        with Database(uri) as database:
            began = time.monotonic()
            database.write(range(1, 1 + self.changes), 1000)
            past = time.monotonic() - began + 2
            command = [sys.executable, "-m", "bench.intake", uri, database.name, str(self.changes), str(past)]
            done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        figures: Figures = json.loads(done.stdout)
        return figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Herd:
    """All clients return at once after a restart, and resume from before the changes that they missed."""

    clients: int
    behind: int
    arguments: tuple[str, ...] = ()

    def measure(self, server: Server, uri: str) -> Figures:
        with Database(uri) as database:
            with Running(Brook(), database) as running:
                last_id = id_of_next(running.port, database)
            database.write(range(2, 2 + self.behind), 100)
            with (
                Running(Brook(*self.arguments), database) as running,
                Cursors(database) as cursors,
                Load(
                    running.port,
                    clients=self.clients,
                    window=self.clients,
                    last_event_id=last_id,
                    first=2,
                    events=self.behind,
                ) as load,
            ):
                before = running.cpu_seconds()
                report = load.wait_for("done")
                used = running.cpu_seconds() - before
                memory = usage.memory_bytes(running.pids())
        return {
            "seconds": (report["last_receipt_us"] - report["opening_us"]) / 1e6,
            # One of the cursors is the live stream.
            "cursors": cursors.max - 1,
            "cpu_ms": used / self.clients * 1000,
            "memory_mb": memory / 1e6,
            "faults": faults(report),
        }


def id_of_next(port: int, database: Database) -> str:
    """Insert the document with number 1 and return its event id."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        text = b""
        while b"retry:" not in text:
            text += client.recv(65536)
        database.write(range(1, 2))
        while not (found := re.search(rb"id: (\S+)\ndata: .*\n\n", text)):
            text += client.recv(65536)
    return found[1].decode()


def faults(report: Figures) -> Figures:
    """Return the faults that the load client counted."""
    return {name: count for name, count in report["faults"].items() if count}


Scenario = Delivery | Idle | Intake | Herd | OwnFilters | ManyFilters | Sizes


def filtered(query: dict[str, Any] | str) -> str:
    """Return the path of a filtered stream. The load client replaces a `#` in it."""
    text = query if isinstance(query, str) else json.dumps(query)
    return "/stream?filter=" + urllib.parse.quote(text, safe="#")


def in_batches(clients: int, changes: int) -> dict[str, Scenario]:
    """Changes in batches of several sizes, plain and compressed."""
    return {
        f"{together}-{coding}": Delivery(
            clients=clients,
            events=max(together, min(changes, 200 * together)),
            together=together,
            interval_seconds=0.01 + together / 5000,
            gzip=coding == "gzip",
        )
        for together in BATCHES
        for coding in ("plain", "gzip")
    }


FULL: dict[str, Scenario] = {
    "small": Delivery(clients=100, events=1000, interval_seconds=0.005),
    "paced": Delivery(clients=1000, events=500),
    "burst": Delivery(clients=1000, events=1000, together=1000),
    "wide": Delivery(clients=10_000, events=20, interval_seconds=0.5, warm_up=2),
    "idle": Idle(clients=10_000),
    "intake": Intake(changes=50_000),
    "herd": Herd(clients=5000, behind=2000),
    "herd-log": Herd(clients=5000, behind=2000, arguments=("--warm-up-seconds", "0")),
    "own-filters": OwnFilters(clients=10_000, changes=500),
    "100-filters": ManyFilters(delivery=Delivery(clients=10_000, events=20, interval_seconds=0.5, warm_up=2)),
    **in_batches(clients=1000, changes=5000),
    "sizes": Sizes(),
}

# Sizes to check that everything works; figures of such small runs mean little.
QUICK: dict[str, Scenario] = {
    "small": Delivery(clients=20, events=100, interval_seconds=0.005),
    "paced": Delivery(clients=200, events=100),
    "burst": Delivery(clients=200, events=200, together=200),
    "wide": Delivery(clients=2000, events=5, interval_seconds=0.5, warm_up=2),
    "idle": Idle(clients=2000, seconds=16),
    "intake": Intake(changes=10_000),
    "herd": Herd(clients=500, behind=500),
    "herd-log": Herd(clients=500, behind=500, arguments=("--warm-up-seconds", "0")),
    "own-filters": OwnFilters(clients=2000, changes=100),
    "100-filters": ManyFilters(delivery=Delivery(clients=2000, events=5, interval_seconds=0.5, warm_up=2)),
    **in_batches(clients=200, changes=1000),
    "sizes": Sizes(),
}

# The other scenarios apply only to this project's server: its peers have no log to resume from and do not
# compress.
COMPARED = ("small", "paced", "burst", "wide", "idle")
