"""A client of a guarded stream: it keeps every byte that it was sent, and the documents that it holds."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import closing, suppress
from typing import Any

from tests.support.raw_client import RawClient, Received

Held = dict[str, Any]
"""Documents by the text of their `_id`."""


class Tenant:
    """Follows a stream, or a bundle of two live queries, and is cut off at random."""

    def __init__(
        self,
        port: int,
        token: str,
        path: str,
        chance: random.Random,
        *,
        body: bytes = b"",
        forges: bool = False,
        compressed: bool = False,
    ) -> None:
        self.path = path
        self.bytes = bytearray()
        self.held: Held = {}
        self.count = -1
        self.resets = 0
        self.connects = 0
        self.position = ""
        self._port = port
        self._headers = {"Authorization": f"Bearer {token}"}
        if compressed:
            self._headers["Accept-Encoding"] = "gzip"
        self._body = body
        self._chance = chance
        self.forges = forges
        self.compressed = compressed
        self._snapshot: Held | None = None

    async def run(self, foreign: list[str]) -> None:
        """Follow until cancelled. A client that forges its position takes one of `foreign`."""
        while True:
            since = self.position
            if self.forges and foreign and self._chance.random() < 0.5:
                since = self._chance.choice(foreign)
            self._snapshot = None
            client = RawClient(
                self._port, self.path, headers=self._headers, last_id=since, body=self._since(since)
            )
            with suppress(OSError, EOFError), closing(client):
                await client.connect()
                # A position that is none is refused in the body of a bundle, and resets other streams.
                assert client.status == 200 or (self.forges and self._body and client.status == 400)
                self.connects += 1
                if client.status == 200:
                    await self._follow(client, self._chance.randrange(2, 15))
            self.bytes += json.dumps(client.headers).encode() + client.raw
            await asyncio.sleep(self._chance.random() * 0.1)

    async def _follow(self, client: RawClient, events: int) -> None:
        try:
            seen = 0
            # A bundle moves on with its commits alone, and after a reset there is no position at all.
            moved = not self._body
            while seen < events or not moved or not self.position:
                event = await client.next(seconds=600)
                seen += 1
                moved = moved or event.event == "commit"
                self._apply(event)
                # Not the id of the last block: events that wait behind this one are lost with the cut.
                self.position = event.id
        except asyncio.CancelledError:
            self.bytes += client.raw
            raise

    def _since(self, since: str) -> bytes:
        """The body of a bundle, which has the position in it."""
        if not self._body:
            return b""
        return json.dumps(json.loads(self._body) | ({"since": since} if since else {})).encode()

    def _apply(self, event: Received) -> None:
        data = json.loads(event.data)
        match event.event:
            case "reset":
                self.resets += 1
                self.held.clear()
            case "snapshot":
                self._snapshot = (self._snapshot or {}) | {_key(one["_id"]): one for one in data["docs"]}
            case "live":
                self.count = data["count"]
                if not data.get("resumed"):
                    self.held, self._snapshot = self._snapshot or {}, None
            case "changes":
                self._apply_changes(data["changes"])
            case "count":
                self.count = data["count"]
            case "insert" | "update" | "replace":
                if data["doc"] is not None:
                    self.held[_key(data["id"])] = data["doc"]
            case "delete" | "leave":
                self.held.pop(_key(data["id"] if "id" in data else data["_id"]), None)

    def _apply_changes(self, changes: list[Any]) -> None:
        for change in changes:
            if change["op"] == "upsert":
                self.held[_key(change["id"])] = change["doc"]
            else:
                self.held.pop(_key(change["id"]), None)


def _key(id: Any) -> str:
    return json.dumps(id)
