"""A change of a document in MongoDB, kept as the BSON it came in and rendered when it is wanted."""

from __future__ import annotations

from brook import documents
from brook.event import Event, Subscription


class Change(Event):
    """An insert, update, replace or delete. Its id is the `_data` of its resume token."""

    __slots__ = ("op", "raw")

    def __init__(self, id: str, op: str, raw: bytes) -> None:
        self.id = id
        self.key = id
        self.op = op
        self.raw = raw

    @property
    def size(self) -> int:
        """The change event's BSON, and its id."""
        return len(self.raw) + len(self.id)

    def frame(self, subscription: Subscription) -> bytes:
        """The whole document, or a delete's `_id`; nothing for an update whose document is gone."""
        change = documents.decode(self.raw)
        # Neither a token nor JSON has a line end in it, so the frame needs no further checks.
        if self.op == "delete":
            key = documents.to_json({"_id": change["documentKey"]["_id"]})
            return f"id: {self.id}\nevent: delete\ndata: {key}\n\n".encode()
        document = change.get("fullDocument")
        if document is None:
            return b""
        return f"id: {self.id}\ndata: {documents.to_json(document)}\n\n".encode()
