"""The cost of live queries: `python -m bench.live`.

Each figure compares two measurements of one run, so that the load of the machine is in both.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from pymongo import MongoClient

from bench import rounds, usage
from bench.crowd import Crowd
from bench.database import Database
from bench.servers import Brook, Running

DOCUMENTS = 100_000
CHANGES = 200


def live(query: dict[str, Any]) -> str:
    return "/stream?mode=live&filter=" + quote(json.dumps(query))


def writing(write: Callable[[], None], crowd: Crowd) -> None:
    """Write on a thread while the crowd reads, until nothing comes any more."""
    thread = threading.Thread(target=write)
    thread.start()
    while thread.is_alive():
        crowd.read(0.1)
    thread.join()
    crowd.until_quiet()


def shared(uri: str, clients: int) -> dict[str, float]:
    """CPU of a delivery to many clients of one live query, and of plain changes."""
    figures = {}
    for name, path in (("changes", "/stream"), ("live", live({"n": {"$gte": 0}}))):
        with Database(uri) as database:
            database.write(range(1))  # a collection that was made just now cannot be read at once
            with Running(Brook(), database) as running, Crowd(running.port, [path] * clients) as crowd:
                if name == "live":
                    crowd.until_true()
                crowd.until_quiet()
                before, sizes = running.cpu_seconds(), {member.bytes for member in crowd.members}
                writing(lambda database=database: database.write(range(1, 1 + CHANGES), 1, 0.02), crowd)
                used = running.cpu_seconds() - before
                got = {member.bytes for member in crowd.members}
            assert len(got) == 1, f"{name}: clients have {got} bytes, before {sizes}"
        figures[name] = used / CHANGES / clients * 1e6
    return {**figures, "times": figures["live"] / figures["changes"]}


def own(uri: str, clients: int) -> dict[str, float]:
    """Each client has a live query of its own, over an index."""
    with Database(uri) as database, MongoClient[Any](uri) as client:
        collection = client[database.name][database.collection]
        collection.create_index("owner")
        for start in range(0, DOCUMENTS, 10_000):
            numbers = range(start, start + 10_000)
            collection.insert_many([{"n": n, "owner": n % clients, "text": "x" * 100} for n in numbers])
        began = time.monotonic()
        for owner in range(clients):
            list(collection.find({"owner": owner}))
        bare = time.monotonic() - began

        def write() -> None:
            for number in range(CHANGES):
                collection.update_one({"owner": 0}, {"$set": {"size": number}})
                time.sleep(0.01)

        cpu = {}
        for count in (1, clients):
            # A keep-alive to all of them would be counted as a cost of the changes.
            with Running(Brook("--warm-up-seconds=0", "--heartbeat-seconds=120"), database) as running:
                memory = usage.memory_bytes(running.pids())
                began = time.monotonic()
                with Crowd(running.port, [live({"owner": owner}) for owner in range(count)]) as crowd:
                    crowd.until_true()
                    seconds = time.monotonic() - began
                    crowd.until_quiet()
                    memory = usage.memory_bytes(running.pids()) - memory
                    before = running.cpu_seconds()
                    writing(write, crowd)
                    cpu[count] = (running.cpu_seconds() - before) / CHANGES * 1e6
                    assert crowd.members[0].changes > 0
                    assert not any(member.changes for member in crowd.members[1:])
    return {
        "bare loop, s": bare,
        "all true, s": seconds,
        "times the bare loop": seconds / bare,
        "KB a client": memory / clients / 1000,
        "CPU of a change, one client, us": cpu[1],
        "CPU of a change, all clients, us": cpu[clients],
        "times": cpu[clients] / cpu[1],
    }


def restart(uri: str, clients: int, queries: int) -> dict[str, float]:
    """Clients of some queries come back after a restart, with their positions."""
    with Database(uri) as database, MongoClient[Any](uri) as client:
        database.write(range(1, 10_001), 1000)
        paths = [live({"n": {"$lt": 1 + number % queries}}) for number in range(clients)]
        with Running(Brook(), database) as running, Crowd(running.port, paths) as crowd:
            crowd.until_true()
            crowd.until_quiet()
            ids = [member.last_id for member in crowd.members]
        with Running(Brook(), database) as running:
            before = finds(client)
            began = time.monotonic()
            with Crowd(running.port, paths, ids) as crowd:
                crowd.until_true()
                seconds = time.monotonic() - began
            reads = finds(client) - before
    return {"reads of result sets": reads, "all true, s": seconds}


def finds(client: MongoClient[Any]) -> int:
    """Number of queries that MongoDB has answered."""
    return int(client.admin.command("serverStatus")["opcounters"]["query"])


def compare(uri: str, clients: int) -> dict[str, float]:
    """All figures of one round."""
    return {
        f"{name}: {figure}": value
        for name, figures in (
            ("one query", shared(uri, clients)),
            ("own queries", own(uri, clients)),
            ("restart", restart(uri, clients // 2, 100)),
        )
        for figure, value in figures.items()
    }


if __name__ == "__main__":
    rounds.run(__doc__, compare)
