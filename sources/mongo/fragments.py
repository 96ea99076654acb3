"""Changes of more than 16 MB, which `$changeStreamSplitLargeEvent` delivers in fragments."""

from __future__ import annotations

from typing import Any

import bson
from bson.raw_bson import RawBSONDocument


class Fragments:
    """Puts the fragments of one change together. Each has some of its top-level fields, and a token."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}

    @property
    def pending(self) -> bool:
        """True between the first fragment of a change and its last."""
        return bool(self._fields)

    def add(self, change: Any) -> Any | None:
        """A whole change; None while fragments of it are missing. Its `_id` is the token of the last one."""
        split = change.get("splitEvent")
        if split is None:
            return change
        self._fields |= {name: value for name, value in change.items() if name != "splitEvent"}
        if split["fragment"] < split["of"]:
            return None
        whole = RawBSONDocument(bson.encode(self._fields))
        self._fields = {}
        return whole
