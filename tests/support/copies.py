"""A page's copy of live queries, kept as docs/protocol.md tells a page to."""

from __future__ import annotations

import json
from typing import Any


class Copy:
    """The documents that a page holds of one live query, in order."""

    def __init__(self, held: dict[str, Any] | None = None) -> None:
        self.held: dict[str, Any] = dict(held or {})
        """Documents by the text of their `_id`."""
        self.count: int | None = None
        self.is_true = False
        self.reasons: list[str | None] = []
        """One for each snapshot."""
        self._coming: dict[str, Any] = {}

    def apply(self, event: str, data: dict[str, Any]) -> None:
        """Apply one event."""
        match event:
            case "snapshot":
                self._coming |= {json.dumps(document["_id"]): document for document in data["docs"]}
            case "live":
                if not data.get("resumed"):
                    self.held, self._coming = self._coming, {}
                    self.reasons.append(data.get("reason"))
                assert len(self.held) == data["count"], (self.held, data)
                self.is_true = True
            case "count":
                self.count = data["count"]
                self.is_true = True
            case "changes":
                for change in data["changes"]:
                    self._change(change)
            case other:
                raise AssertionError(other)

    def _change(self, change: dict[str, Any]) -> None:
        key = json.dumps(change["id"])
        if change["op"] == "remove":
            self.held.pop(key, None)
        elif "before" not in change:
            self.held[key] = change["doc"]
        else:
            rest = [(other, doc) for other, doc in self.held.items() if other != key]
            before = None if change["before"] is None else json.dumps(change["before"])
            places = [other for other, _ in rest]
            assert before is None or before in places, (change, places)
            place = len(rest) if before is None else places.index(before)
            self.held = dict([*rest[:place], (key, change["doc"]), *rest[place:]])
