"""A client of a live query that comes back for ever, and holds the documents that it was sent."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing, suppress
from typing import Any

from tests.support.raw_client import RawClient, Received


class LiveMember:
    """Holds the result set of a path, over all of its connections."""

    def __init__(self, port: int, path: str = "/stream?mode=live") -> None:
        self.port = port
        self.path = path
        self.documents: dict[Any, Any] = {}
        self.connects = 0
        self.last_id = ""
        self._snapshot: dict[Any, Any] | None = None

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            self._snapshot = None
            with (
                suppress(OSError, EOFError, TimeoutError, AssertionError),
                closing(await RawClient(self.port, self.path, last_id=self.last_id).connect()) as client,
            ):
                self.connects += 1
                while True:
                    event = await client.next()
                    self._apply(event)
                    # Not the last id that was parsed: it may be that of an event behind this one.
                    self.last_id = event.id
            await asyncio.sleep(0.05)

    def _apply(self, event: Received) -> None:
        data = json.loads(event.data)
        match event.event:
            case "snapshot":
                self._snapshot = self._snapshot or {}
                self._snapshot |= {document["_id"]: document for document in data["docs"]}
            case "live":
                if not data.get("resumed"):
                    self.documents, self._snapshot = self._snapshot or {}, None
                # Not an assertion: `run` would take it for the end of the stream.
                if len(self.documents) != data["count"]:
                    raise RuntimeError(f"{len(self.documents)} documents, the server has {data['count']}")
            case "changes":
                for change in data["changes"]:
                    if change["op"] == "upsert":
                        self.documents[change["id"]] = change["doc"]
                    else:
                        self.documents.pop(change["id"], None)
