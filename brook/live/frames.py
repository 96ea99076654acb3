"""The frames of live mode, and the documents in them. `docs/protocol.md`, "Live", has the shapes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from brook import sse
from brook.changes import documents
from brook.event import Position, ResetReason
from brook.subscription import Mode, Subscription, Types

# The digest of a document's text. Two texts have the same with a probability of 5 in 10^20, and then an
# update is not sent.
DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class Rendering:
    """A document as a subscription shows it."""

    text: str
    digest: bytes


class Renderer:
    """Renders documents and `_id`s for one subscription."""

    def __init__(self, subscription: Subscription) -> None:
        self._fields = subscription.fields
        self._write: Any = documents.to_ejson if subscription.types is Types.EJSON else documents.to_json

    def document(self, document: documents.Document) -> Rendering:
        """The shown part of a document."""
        text: str = self._write(document if self._fields is None else self._fields.of(document))
        return Rendering(text, blake2b(text.encode(), digest_size=DIGEST_BYTES).digest())

    def upsert(self, why: str, id: Any, text: str) -> str:
        """A change that adds or replaces a document."""
        return f'{{"op":"upsert","why":"{why}","id":{self._write(id)},"doc":{text}}}'

    def remove(self, why: str, id: Any) -> str:
        """A change that removes a document."""
        return f'{{"op":"remove","why":"{why}","id":{self._write(id)}}}'


def snapshot(texts: Sequence[str]) -> bytes:
    """A part of a snapshot."""
    return sse.frame(f'{{"docs":[{",".join(texts)}]}}', event="snapshot")


def changes(position: Position, texts: Sequence[str]) -> bytes:
    """All changes of one batch."""
    return sse.frame(f'{{"changes":[{",".join(texts)}]}}', event="changes", id=position.id)


def live(
    position: Position, count: int, *, reason: ResetReason | None = None, resumed: bool = False
) -> bytes:
    """The end of a snapshot, or of the missed changes."""
    facts: dict[str, object] = {"count": count}
    if resumed:
        facts["resumed"] = True
    if reason is not None:
        facts["reason"] = reason.value
    return sse.frame(json.dumps(facts, separators=(",", ":")), event="live", id=position.id)


def end(
    mode: Mode, position: Position, number: int, *, reason: ResetReason | None = None, resumed: bool = False
) -> bytes:
    """The frame after which a client is true: `live`, or `count`."""
    if mode is Mode.COUNT:
        return count(position, number)
    return live(position, number, reason=reason, resumed=resumed)


def count(position: Position, number: int) -> bytes:
    """The number of documents that a subscription holds."""
    return sse.frame(f'{{"count":{number}}}', event="count", id=position.id)
