"""Changes of more than 16 MB, which `$changeStreamSplitLargeEvent` delivers in fragments."""

from __future__ import annotations

from typing import Any

import bson

from sources.mongo.entry import Entry


class Fragments:
    """Puts the fragments of one change together. Each has some of its top-level fields, and a token."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}

    @property
    def pending(self) -> bool:
        """True between the first fragment of a change and its last."""
        return bool(self._fields)

    def add(self, fragment: Entry) -> Entry | None:
        """The whole change, with the token of its last fragment; None while fragments are missing."""
        fields = dict(fragment.document)
        split = fields.pop("splitEvent")
        self._fields |= fields
        if split["fragment"] < split["of"]:
            return None
        whole = Entry(bson.encode(self._fields))
        self._fields = {}
        return whole
