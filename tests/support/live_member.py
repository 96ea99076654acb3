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
        """The documents by `_id`; of a query with `sort`, in order."""
        self.connects = 0
        self.snapshots = 0
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
                    self.snapshots += 1
                    self.documents, self._snapshot = self._snapshot or {}, None
                # Not an assertion: `run` would take it for the end of the stream.
                if len(self.documents) != data["count"]:
                    raise RuntimeError(f"{len(self.documents)} documents, the server has {data['count']}")
            case "changes":
                for change in data["changes"]:
                    if change["op"] == "remove":
                        self.documents.pop(change["id"], None)
                    elif "before" in change:
                        self._place(change)
                    else:
                        self.documents[change["id"]] = change["doc"]

    def _place(self, change: dict[str, Any]) -> None:
        """Put a document in front of another one, once it was taken out of its old place; null is the end."""
        rest = [each for each in self.documents.items() if each[0] != change["id"]]
        place = len(rest)
        if change["before"] is not None:
            place = [id for id, _ in rest].index(change["before"])
        self.documents = dict([*rest[:place], (change["id"], change["doc"]), *rest[place:]])
