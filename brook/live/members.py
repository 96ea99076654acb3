"""The documents that a result set holds, without an order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import bson

from brook.changes.change import DecodedChange
from brook.live.frames import Renderer
from brook.subscription import Subscription

Key = bytes
"""The key of an `_id`."""


def key_of(id: Any) -> Key:
    """The key of an `_id`, its BSON: so 1 and "1" are two documents."""
    return bson.encode({"": id})


@dataclass(slots=True)
class Touched:
    """A document that a batch has changed, as it is after the batch."""

    change: DecodedChange
    inserted: bool
    """True if the batch has inserted it, even if it has changed it again."""

    @property
    def document(self) -> dict[str, Any] | None:
        """The document; None if it is gone."""
        return None if self.change.operation == "delete" else self.change.document

    @property
    def why_removed(self) -> str:
        """The member `why` of a `remove`."""
        return "delete" if self.document is None else "leave"

    def why_shown(self, *, held: bool) -> str:
        """The member `why` of an `upsert`."""
        if not held:
            return "insert" if self.inserted else "enter"
        return "update" if self.change.operation == "update" and not self.inserted else "replace"


class Holder(Protocol):
    """Is told which documents a result set holds."""

    def hold(self, key: Key) -> None:
        """A document has come."""

    def release(self, key: Key) -> None:
        """A document has gone."""


class Collected(Protocol):
    """The content of a result set: `Members`, or a `Window` of an order. No method awaits."""

    def __len__(self) -> int:
        """Number of documents that the clients are shown."""

    def held(self) -> Iterator[Key]:
        """The keys of all documents that are held."""

    def holds(self, key: Key) -> bool:
        """True if a document is held."""

    def add(self, document: dict[str, Any]) -> str | None:
        """Add a document of a snapshot. Returns its text; None if it is not shown."""

    def finish(self, read: int) -> None:
        """End a snapshot for which `read` documents were read, readable or not."""

    def apply(self, touched: Mapping[Key, Touched], holder: Holder) -> Sequence[str] | None:
        """Apply a batch. Returns the changes for the clients; None if the set has to be read anew."""


class Members:
    """The documents that match, without their content: by key, the digest of the text that was shown."""

    __slots__ = ("_digests", "_renderer", "_selects")

    def __init__(self, subscription: Subscription, renderer: Renderer) -> None:
        self._selects = subscription.selects
        self._renderer = renderer
        self._digests: dict[Key, bytes] = {}

    def __len__(self) -> int:
        return len(self._digests)

    def held(self) -> Iterator[Key]:
        return iter(self._digests)

    def holds(self, key: Key) -> bool:
        return key in self._digests

    def add(self, document: dict[str, Any]) -> str | None:
        rendering = self._renderer.document(document)
        self._digests[key_of(document["_id"])] = rendering.digest
        return rendering.text

    def finish(self, read: int) -> None:
        pass

    def apply(self, touched: Mapping[Key, Touched], holder: Holder) -> Sequence[str] | None:
        texts = (self._change(key, each, holder) for key, each in touched.items())
        return [text for text in texts if text]

    def _change(self, key: Key, touched: Touched, holder: Holder) -> str:
        held = self._digests.get(key)
        document, id = touched.document, touched.change.document_id
        if document is None or not self._selects(document):
            if held is None:
                return ""
            del self._digests[key]
            holder.release(key)
            return self._renderer.remove(touched.why_removed, id)
        rendering = self._renderer.document(document)
        self._digests[key] = rendering.digest
        if held is None:
            holder.hold(key)
        if rendering.digest == held:
            return ""
        return self._renderer.upsert(touched.why_shown(held=held is not None), id, rendering.text)
