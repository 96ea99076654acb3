"""Clients of live queries on a collection in memory, with what they hold."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from brook.event import Position
from brook.parameters import CollectionStreams, subscription
from brook.query import Sort
from brook.subscription import Subscription
from tests.support.copies import Copy
from tests.support.fakes import Client, Harness
from tests.support.pond import KNOWN, Pond

QUERIES = {
    "large": {"query": '{"size":{"$gte":5}}'},
    "newts": {"query": '{"type":"newt"}'},
    "all": {"query": "{}"},
    "number": {"query": '{"type":"newt"}', "mode": "count"},
    "first": {"query": "{}", "sort": '{"size":-1,"mood":1}', "limit": "2"},
    "slow": {"query": '{"size":{"$gte":5}}', "every": "1000"},
    "slow-number": {"query": '{"type":"newt"}', "mode": "count", "every": "1000"},
    "slow-first": {"query": "{}", "sort": '{"size":-1}', "limit": "2", "every": "1000"},
    "feed": {"query": "{}", "mode": "changes", "format": "envelope"},
    "sorted": {"query": '{"type":"newt"}', "sort": '{"legs":1}'},
}


def wanted(query: str, **parameters: str) -> Subscription:
    texts = {name: [text] for name, text in {"filter": query, "mode": "live", **parameters}.items()}
    return subscription(KNOWN, "creatures", texts)


class Page:
    """A client of one or more live queries, with what it holds."""

    def __init__(self, harness: Harness, asked: Any, since: Position | None = None, held: Any = None) -> None:
        self.asked = asked
        self.place = ""
        self._read = 0
        names = [asked] if isinstance(asked, str) else asked
        parts = {name: wanted(**QUERIES[name]) for name in names}
        self.copies = {name: Copy(held and held[name].held) for name in names if name != "feed"}
        self.begun = since is not None
        """True once it has a position: a bundle's changes begin there."""
        self.heard: list[tuple[str, Any]] = []
        """The changes that the part "feed" of a bundle has brought."""
        self.pending: list[tuple[str, dict[str, Any]]] = []
        """Events of a bundle that no commit has followed yet."""
        if isinstance(asked, str):
            self._tags = {"": asked}
            self.client: Client = harness.connect(since, subscription=parts[asked])
            return
        body = {"subscriptions": {name: {"stream": "creatures", **as_json(name)} for name in names}}
        request = CollectionStreams(KNOWN).bundle(json.dumps(body).encode())
        self._tags = {tag: name for name, tag in request.tags.items()}
        self.client = harness.connect(since, subscription=request.bundle, fresh=request.fresh)

    @property
    def is_true(self) -> bool:
        return all(copy.is_true for copy in self.copies.values())

    def look(self) -> None:
        """Apply what has come."""
        events = self.client.heard()
        for event in events[self._read :]:
            data = json.loads(event.data)
            if event.event == "commit":
                for of, (kind, one) in self.pending:
                    if self._tags[of] == "feed":
                        self.heard.append((kind, one.get("id")))
                    else:
                        self.copies[self._tags[of]].apply(kind, one)
                self.pending = []
            elif "of" in data:
                self.pending.append((data.pop("of"), (event.event, data)))
            else:
                self.copies[self._tags[""]].apply(event.event, data)
            self.place = event.id or self.place
            self.begun = self.begun or bool(event.id)
        self._read = len(events)


def as_json(name: str) -> dict[str, Any]:
    """A query as it stands in the body of a request."""
    asked = {"mode": "live", **{key: text for key, text in QUERIES[name].items() if key != "query"}}
    asked |= {key: json.loads(text) for key, text in asked.items() if key in ("sort", "limit", "every")}
    return {**asked, "filter": json.loads(QUERIES[name]["query"])}


def found(pond: Pond, name: str) -> list[dict[str, Any]]:
    """The documents that MongoDB finds."""
    asked = QUERIES[name]
    documents = list(pond.creatures.find(json.loads(asked["query"])))
    if "sort" in asked:
        documents.sort(key=Sort.parse(asked["sort"]).place)
    return documents[: int(asked.get("limit", 1000))]


def check(pond: Pond, page: Page) -> None:
    assert page.is_true
    assert not page.pending
    for name, copy in page.copies.items():
        expected = found(pond, name)
        if QUERIES[name].get("mode") == "count":
            assert copy.count == len(expected)
        elif "sort" in QUERIES[name]:
            assert list(copy.held.values()) == expected
        else:
            assert copy.held == {json.dumps(each["_id"]): each for each in expected}


async def settle() -> None:
    """Let the reads go on to their end."""
    for _ in range(30):
        await asyncio.sleep(0)
