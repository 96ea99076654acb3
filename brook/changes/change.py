"""A change of a document in MongoDB, kept as the BSON it came in and decoded when somebody listens."""

from __future__ import annotations

import datetime
import logging
from dataclasses import dataclass
from typing import Any

from bson.errors import InvalidBSON

from brook.changes import documents, resume_token
from brook.event import DecodedEvent, LogEvent, Reset, ResetReason
from brook.query import Fields, index_keys
from brook.subscription import Format, Subscription, Types

log = logging.getLogger(__name__)

# The renderings of one change that are kept while it is decoded. Clients choose which there are: without a
# bound, a few thousand lists of fields would be as many copies, and twelve of 16 MB took 2 GB.
MAX_RENDERINGS = 16
MAX_RENDERING_CHARACTERS = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Change(LogEvent):
    """An insert, update, replace or delete. Its id is the `_data` of its resume token."""

    id: str
    operation: str
    raw: bytes
    """The change event's BSON."""
    key: str = ""

    @property
    def size(self) -> int:
        return len(self.raw) + len(self.id)

    def decode(self) -> DecodedEvent:
        """The change, decoded; a reset in the place of one that cannot be."""
        try:
            return DecodedChange(self)
        except InvalidBSON as error:
            # MongoDB keeps what careless programs wrote. It must not end the stream for everybody.
            log.warning("a change cannot be read (%s): every client is reset", error)
            before = resume_token.just_before(resume_token.cluster_time(self.id))
            return Reset(ResetReason.UNREADABLE_EVENT, id=resume_token.checkpoint(before).id, key=self.key)


class DecodedChange(DecodedEvent):
    """A decoded change. Shared by all subscriptions of a batch: what two of them need is made once."""

    __slots__ = ("_change", "_id", "_rendered", "document", "operation")

    def __init__(self, change: Change) -> None:
        self._change = documents.decode(change.raw)
        self._id = change.id
        self._rendered: dict[tuple[Format, Types, Fields | None, bool], str] = {}
        self.operation = change.operation
        # What a filter is asked about: the document after the change, or the one that was deleted.
        key = "fullDocumentBeforeChange" if change.operation == "delete" else "fullDocument"
        self.document: documents.Document | None = self._change.get(key)

    @property
    def namespace(self) -> str:
        """Database and collection."""
        ns = self._change["ns"]
        return f"{ns['db']}.{ns['coll']}"

    def keys(self, path: str) -> set[Any]:
        """What an equality on a path may look for. Of a deleted document at least its key is known."""
        known = self.document
        if known is None and path.partition(".")[0] == "_id":
            known = self._change["documentKey"]
        return index_keys(known, path) if known is not None else set()

    def matches(self, subscription: Subscription) -> bool:
        if subscription.namespaces is not None and self.namespace not in subscription.namespaces:
            return False
        if subscription.operations is not None and self.operation not in subscription.operations:
            return False
        key = self._change["documentKey"]
        if subscription.ids is not None and subscription.ids.isdisjoint(index_keys(key, "_id")):
            return False
        if subscription.filter is None:
            return True
        if self.document is not None:
            return subscription.filter.matches(self.document)
        # Only the key is known of a delete without a pre-image, and of an update whose document is gone.
        return subscription.filter.only_about_id and subscription.filter.matches(key)

    def render(self, subscription: Subscription) -> bytes:
        key = (subscription.format, subscription.types, subscription.fields, subscription.before)
        data = self._rendered.get(key)
        if data is None:
            data = self._data(subscription)
            if len(self._rendered) < MAX_RENDERINGS and len(data) <= MAX_RENDERING_CHARACTERS:
                self._rendered[key] = data
        if not data:
            return b""
        # Neither a token nor JSON has a line end in it, so the frame needs no further checks.
        if subscription.format is Format.ENVELOPE:
            return f"id: {self._id}\nevent: {self.operation}\ndata: {data}\n\n".encode()
        if self.operation == "delete":
            return f"id: {self._id}\nevent: delete\ndata: {data}\n\n".encode()
        return f"id: {self._id}\ndata: {data}\n\n".encode()

    def _data(self, subscription: Subscription) -> str:
        write = documents.to_ejson if subscription.types is Types.EJSON else documents.to_json
        if subscription.format is Format.ENVELOPE:
            return write(self._envelope(subscription))
        if self.operation == "delete":
            return write({"_id": self._change["documentKey"]["_id"]})
        # An update whose document is already gone sends nothing: its delete follows.
        return "" if self.document is None else write(_part(self.document, subscription.fields))

    def _envelope(self, subscription: Subscription) -> documents.Document:
        change, fields = self._change, subscription.fields
        document = None if self.operation == "delete" else self.document
        envelope = {
            "op": self.operation,
            "ns": self.namespace,
            "id": change["documentKey"]["_id"],
            "doc": None if document is None else _part(document, fields),
        }
        if self.operation == "update":
            if document is None:
                envelope["gone"] = True
            envelope["changed"] = _changed(change["updateDescription"], fields)
        if subscription.before:
            before = change.get("fullDocumentBeforeChange")
            envelope["before"] = None if before is None else _part(before, fields)
        envelope["time"] = documents.rfc3339(_time(change))
        return envelope


def _part(document: documents.Document, fields: Fields | None) -> documents.Document:
    return document if fields is None else fields.of(document)


def _changed(description: documents.Document, fields: Fields | None) -> documents.Document:
    """What an update did, without what the client does not want to see."""
    values, unset = description["updatedFields"], description["removedFields"]
    truncated = description.get("truncatedArrays", [])
    if fields is not None:
        values = fields.of_paths(values)
        unset = [path for path in unset if fields.shows(path)]
        truncated = [array for array in truncated if fields.shows(array["field"])]
    return {"set": values, "unset": unset, "truncated": truncated}


def _time(change: documents.Document) -> datetime.datetime:
    """When it happened: servers before 6.0 tell only the second."""
    if "wallTime" in change:
        wall: datetime.datetime = change["wallTime"]
        return wall
    return datetime.datetime.fromtimestamp(change["clusterTime"].time, datetime.UTC)
