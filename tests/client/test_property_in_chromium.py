"""A page's queries in Chromium under random writes, cuts and kills of the server: each is what `find` finds.

`SEED=n` repeats a run.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient

from tests.support.browser import Browser, chromium_fixture, page_fixture  # noqa: F401 - fixtures
from tests.support.processes import ServerProcess
from tests.support.proxy import Proxy

SEED = int(os.environ.get("SEED", random.randrange(10**6)))
ROUNDS = 8
SUM = 100

QUERIES: dict[str, dict[str, Any]] = {
    "all": {},
    "large": {"filter": {"size": {"$gte": 2}}},
    "window": {"filter": {"size": {"$gte": 1}}, "sort": {"size": -1, "_id": 1}, "limit": 6},
    "accounts": {"filter": {"money": {"$exists": True}}},
}

# Every list that is told is looked at: an empty one, and one with half of a transaction, are noted.
FOLLOW = """
    const [queries, sum] = arguments;
    import("/static/brook.js").then(({ Brook }) => {
      window.wrong = [];
      window.brook = new Brook("/", { bundle: true });
      window.lives = {};
      for (const [name, wanted] of Object.entries(JSON.parse(queries))) {
        lives[name] = brook.live("creatures", wanted);
        lives[name].subscribe((documents) => {
          if (!documents.length) wrong.push(`${name} is empty`);
          const total = documents.reduce((all, { money = 0 }) => all + money, 0);
          if (name === "accounts" && total !== sum) wrong.push(`half of a transaction: ${total}`);
        });
      }
    });
"""

REACHED = """
    window.there = false;
    brook.reached(arguments[0]).then(() => { window.there = true; });
"""

SHOWN = "return Object.fromEntries(Object.entries(lives).map(([name, live]) => [name, live.documents]))"


class Writers:
    """Threads that change the pond until told to rest. A document always remains in each result."""

    def __init__(self, uri: str, database: str, seed: int) -> None:
        self._client = MongoClient[Any](uri)
        self._pond = self._client[database].creatures
        self._dice = [random.Random(seed), random.Random(seed + 1)]
        self._rest = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Writers:
        self._rest.clear()
        self._threads = [
            threading.Thread(target=work, args=(dice,))
            for work, dice in zip((self._change, self._transfer), self._dice, strict=True)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._rest.set()
        for thread in self._threads:
            thread.join()

    def close(self) -> None:
        self._client.close()

    def position(self) -> str:
        """A position behind every write so far."""
        with self._client.start_session() as session:
            self._pond.update_one({"_id": "anchor"}, {"$inc": {"touched": 1}}, session=session)
            return f"t{session.operation_time.time}.{session.operation_time.inc}"

    def _change(self, dice: random.Random) -> None:
        while not self._rest.wait(0.004):
            key, size = {"_id": dice.randrange(30)}, dice.randrange(5)
            match dice.randrange(3):
                case 0:
                    self._pond.replace_one(key, {"size": size}, upsert=True)
                case 1:
                    self._pond.update_one(key, {"$set": {"size": size}})
                case 2:
                    self._pond.delete_one(key)

    def _transfer(self, dice: random.Random) -> None:
        with self._client.start_session() as session:
            while not self._rest.wait(0.02):
                amount = dice.randrange(1, 9)
                with session.start_transaction():
                    self._pond.update_one({"_id": "left"}, {"$inc": {"money": -amount}}, session=session)
                    self._pond.update_one({"_id": "right"}, {"$inc": {"money": amount}}, session=session)


@pytest.fixture
def writers(sandbox, database) -> Iterator[Writers]:
    database.creatures.insert_many(
        [{"_id": "anchor", "size": 5}, {"_id": "left", "money": SUM}, {"_id": "right", "money": 0}]
    )
    writers = Writers(sandbox.uri, database.name, SEED)
    yield writers
    writers.close()


def found(database: Any, wanted: dict[str, Any]) -> list[Any]:
    documents = database.creatures.find(wanted.get("filter", {})).limit(wanted.get("limit", 0))
    return ordered(
        list(documents.sort(list(wanted["sort"].items())) if "sort" in wanted else documents), wanted
    )


def ordered(documents: list[Any], wanted: dict[str, Any]) -> list[Any]:
    """A window has an order; the rest is in one of the test's own."""
    return documents if "sort" in wanted else sorted(documents, key=lambda one: str(one["_id"]))


def hurt(dice: random.Random, proxy: Proxy, server: ServerProcess) -> None:
    """Cut the page off, for a moment or while the server is killed and started."""
    proxy.cut()
    if dice.random() < 0.5:
        server.kill()
        server.start()
    proxy.restore()


def test_queries_of_a_page_are_what_find_finds(sandbox, database, writers, start_server, page: Browser):
    print(f"SEED={SEED}")
    dice = random.Random(SEED)
    server = start_server("--mongo", sandbox.uri, "--database", database.name, "--retry-ms", "50")
    with Proxy(server.port) as proxy:
        page.open(f"http://127.0.0.1:{proxy.port}")
        # As text: the driver would sort the keys, of which the order means something in a sort.
        page.run(FOLLOW, json.dumps(QUERIES), SUM)
        page.wait("window.lives && Object.values(lives).every(({ documents }) => documents)")
        for _ in range(ROUNDS):
            with writers:
                for _ in range(dice.randrange(3)):
                    threading.Event().wait(dice.random() * 0.4)
                    hurt(dice, proxy, server)
                threading.Event().wait(dice.random() * 0.4)
            page.run(REACHED, writers.position())
            page.wait("window.there")
            shown = page.run(SHOWN)
            for name, wanted in QUERIES.items():
                assert ordered(shown[name], wanted) == found(database, wanted), (SEED, name)
            assert page.run("return wrong") == [], SEED
