"""A change of a document in MongoDB: kept as the BSON of the change stream, decoded when a client listens."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bson.errors import InvalidBSON

from brook.changes import documents, resume_token
from brook.event import DecodedEvent, LogEvent, Reset, ResetReason
from brook.query import Fields, Filter, index_keys
from brook.subscription import Format, Subscription, Types

log = logging.getLogger(__name__)

# Number of renderings that one decoded change keeps. Clients choose the lists of fields: without a bound, a
# few thousand lists would make as many copies, and twelve copies of 16 MB took 2 GB.
MAX_RENDERINGS = 16
MAX_RENDERING_CHARACTERS = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Change(LogEvent):
    """An insert, update, replace or delete. `resume_token` makes its id and its key."""

    id: str
    operation: str
    raw: bytes
    """The change event's BSON."""
    key: str = ""

    @property
    def size(self) -> int:
        return len(self.raw) + len(self.id)

    def decode(self) -> DecodedEvent:
        """The change, decoded; a reset if it cannot be decoded."""
        try:
            return DecodedChange(self)
        except InvalidBSON as error:
            # MongoDB stores malformed BSON from careless programs. One such document must not end the feed.
            log.warning("a change cannot be read (%s): every client is reset", error)
            before = resume_token.just_before(resume_token.cluster_time(self.key))
            return Reset(ResetReason.UNREADABLE_EVENT, id=resume_token.checkpoint(before).id, key=self.key)


class DecodedChange(DecodedEvent):
    """A decoded change. All subscriptions of a batch share it, and with it each rendering."""

    __slots__ = ("_change", "_id", "_rendered", "document", "operation", "size")

    def __init__(self, change: Change) -> None:
        self._change = documents.decode(change.raw)
        self.size = change.size
        self._id = change.id
        self._rendered: dict[tuple[object, ...], str] = {}
        self.operation = change.operation
        # The document that filters read: the one after the change, or the deleted one.
        key = "fullDocumentBeforeChange" if change.operation == "delete" else "fullDocument"
        self.document: documents.Document | None = self._change.get(key)

    @property
    def _before(self) -> documents.Document | None:
        """The document before the change; None without a pre-image."""
        before: documents.Document | None = self._change.get("fullDocumentBeforeChange")
        return before

    @property
    def namespace(self) -> str:
        """Database and collection, joined by a dot."""
        ns = self._change["ns"]
        return f"{ns['db']}.{ns['coll']}"

    @property
    def document_id(self) -> Any:
        """The `_id` of the document."""
        return self._change["documentKey"]["_id"]

    def keys(self, path: str) -> set[Any]:
        """The values at a path, before and after the change. Without a document, only `_id` is known."""
        known = self.document
        if known is None and path.partition(".")[0] == "_id":
            known = self._change["documentKey"]
        keys = index_keys(known, path) if known is not None else set()
        # The document may have left an access rule.
        return keys if self._before is None else keys | index_keys(self._before, path)

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
            if subscription.filter.matches(self.document):
                return subscription.rule is None or not self._is_of_former_owner(subscription.rule)
            return self._leaves(subscription)
        # A delete without a pre-image, and an update of a document that is already gone, have only the key.
        if subscription.filter.only_about_id and subscription.filter.matches(key):
            return True
        return self._leaves(subscription)

    def was_in_reach(self, rule: Filter) -> bool | None:
        """True if an access rule held for the document before the change; None if that is not known."""
        if self.operation == "insert":
            return False
        if self._before is not None:
            return rule.matches(self._before)
        return rule.matches(self._change["documentKey"]) if rule.only_about_id else None

    def _is_of_former_owner(self, rule: Filter) -> bool:
        """True if the document came into the rule's reach only after this update. The document is that of the
        batch's end.
        """
        if self.operation != "update" or self._touches(rule):
            return False
        return self.was_in_reach(rule) is False

    def _leaves(self, subscription: Subscription) -> bool:
        """True if the change takes the document out of the reach of an access rule, and the client is sent a
        `leave`.
        """
        rule = subscription.rule
        if rule is None or subscription.format is Format.PLAIN or self.operation not in ("update", "replace"):
            return False
        if self.document is None:
            # It is already deleted, perhaps by its next owner.
            return self._touches(rule) and self.was_in_reach(rule) is True
        return not rule.matches(self.document) and self.was_in_reach(rule) is True

    def _touches(self, rule: Filter) -> bool:
        """True if an update has changed a field that a rule reads."""
        description = self._change["updateDescription"]
        truncated = [array["field"] for array in description.get("truncatedArrays", ())]
        paths = [*description["updatedFields"], *description["removedFields"], *truncated]
        return any(map(rule.reads, paths))

    def render(self, subscription: Subscription) -> bytes:
        if self._leaves(subscription):
            return self._frame("leave", self._departure(subscription), subscription)
        rule = subscription.rule if subscription.format is Format.ENVELOPE else None
        key = (subscription.format, subscription.types, subscription.fields, subscription.before, rule)
        data = self._rendered.get(key)
        if data is None:
            data = self._data(subscription)
            if len(self._rendered) < MAX_RENDERINGS and len(data) <= MAX_RENDERING_CHARACTERS:
                self._rendered[key] = data
        if not data:
            return b""
        if subscription.format is Format.PLAIN and self.operation != "delete":
            return f"id: {self._id}\ndata: {data}\n\n".encode()
        return self._frame(self.operation, data, subscription)

    def _frame(self, event: str, data: str, subscription: Subscription) -> bytes:
        # Neither an id nor JSON has a line end in it, so the frame needs no further checks.
        if subscription.tag:
            return f'event: {event}\ndata: {{"of":"{subscription.tag}",{data[1:]}\n\n'.encode()
        return f"id: {self._id}\nevent: {event}\ndata: {data}\n\n".encode()

    def _departure(self, subscription: Subscription) -> str:
        departure = {"op": "leave", "ns": self.namespace, "id": self.document_id}
        return _writer(subscription)(departure | {"time": documents.rfc3339(_time(self._change))})

    def _data(self, subscription: Subscription) -> str:
        write = _writer(subscription)
        if subscription.format is Format.ENVELOPE:
            return write(self._envelope(subscription))
        if self.operation == "delete":
            return write({"_id": self._change["documentKey"]["_id"]})
        # An update of a document that is already gone sends nothing: the delete follows.
        return "" if self.document is None else write(_part(self.document, subscription.fields))

    def _envelope(self, subscription: Subscription) -> documents.Document:
        change, fields, rule = self._change, subscription.fields, subscription.rule
        in_reach = rule is None or self.was_in_reach(rule) is True
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
            # `document` is of a later moment. Under a rule, the values of this change are shown only if the
            # document was in reach before it and after it.
            shows = in_reach and (rule is None or not self._touches(rule))
            envelope["changed"] = _changed(change["updateDescription"], fields) if shows else None
        if subscription.before:
            before = self._before if in_reach else None
            envelope["before"] = None if before is None else _part(before, fields)
        envelope["time"] = documents.rfc3339(_time(change))
        return envelope


def _writer(subscription: Subscription) -> Callable[[documents.Document], str]:
    return documents.to_ejson if subscription.types is Types.EJSON else documents.to_json


def _part(document: documents.Document, fields: Fields | None) -> documents.Document:
    return document if fields is None else fields.of(document)


def _changed(description: documents.Document, fields: Fields | None) -> documents.Document:
    """An update's changes, limited to the fields that the subscription shows."""
    values, unset = description["updatedFields"], description["removedFields"]
    truncated = description.get("truncatedArrays", [])
    if fields is not None:
        values = fields.of_paths(values)
        unset = [path for path in unset if fields.shows(path)]
        truncated = [array for array in truncated if fields.shows(array["field"])]
    return {"set": values, "unset": unset, "truncated": truncated}


def _time(change: documents.Document) -> datetime.datetime:
    """Time of the change. Servers before 6.0 give only the second."""
    if "wallTime" in change:
        wall: datetime.datetime = change["wallTime"]
        return wall
    return datetime.datetime.fromtimestamp(change["clusterTime"].time, datetime.UTC)
