"""The events of live mode, and the documents in them. `docs/protocol.md`, "Live", has the shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from brook import sse
from brook.changes import documents
from brook.event import Position, ResetReason
from brook.subscription import Mode, Subscription, Types

# Size of the digest of a document's text. Two texts have the same one with a probability of 5 in 10^20, and
# then an update is not sent.
DIGEST_BYTES = 8


class Message:
    """An event for the clients of a result set, which share its bytes.

    For a subscription alone on its connection, it has an id. In a bundle it has a tag instead, and a `commit`
    with an id follows. `body` is the JSON object of its data, without the braces.
    """

    __slots__ = ("_alone", "_body", "_bundled", "_event", "_position")

    def __init__(self, event: str, body: str, position: Position | None = None) -> None:
        self._event = event
        self._body = body
        self._position = position
        self._alone = self._bundled = b""

    def __len__(self) -> int:
        return len(self._body)

    def frame(self, tag: str = "") -> bytes:
        """The bytes for a subscription alone on its connection, or with its tag in bundles."""
        if not tag:
            self._alone = self._alone or self._make("", "" if self._position is None else self._position.id)
            return self._alone
        self._bundled = self._bundled or self._make(f'"of":"{tag}",', "")
        return self._bundled

    def _make(self, of: str, id: str) -> bytes:
        return sse.frame(f"{{{of}{self._body}}}", event=self._event, id=id)


@dataclass(frozen=True, slots=True)
class Rendering:
    """A document as a subscription shows it."""

    text: str
    digest: bytes


class Renderer:
    """Renders documents and `_id`s for one subscription."""

    __slots__ = ("_fields", "_write")

    def __init__(self, subscription: Subscription) -> None:
        self._fields = subscription.fields
        self._write: Any = documents.to_ejson if subscription.types is Types.EJSON else documents.to_json

    def document(self, document: documents.Document) -> Rendering:
        """The part of a document that the subscription shows, with its digest."""
        text = self.text(document)
        return Rendering(text, blake2b(text.encode(), digest_size=DIGEST_BYTES).digest())

    def text(self, document: documents.Document) -> str:
        """The part of a document that the subscription shows, without a digest."""
        text: str = self._write(document if self._fields is None else self._fields.of(document))
        return text

    def id(self, id: Any) -> str:
        """An `_id`, as JSON."""
        text: str = self._write(id)
        return text

    def upsert(self, why: str, id: Any, text: str) -> str:
        """A change that adds or replaces a document."""
        return f'{{"op":"upsert","why":"{why}","id":{self._write(id)},"doc":{text}}}'

    def remove(self, why: str, id: Any) -> str:
        """A change that removes a document."""
        return f'{{"op":"remove","why":"{why}","id":{self._write(id)}}}'


def snapshot(texts: Sequence[str]) -> Message:
    """A part of a snapshot."""
    return Message("snapshot", f'"docs":[{",".join(texts)}]')


def changes(position: Position, texts: Sequence[str]) -> Message:
    """All changes of one batch."""
    return Message("changes", f'"changes":[{",".join(texts)}]', position)


def end(
    mode: Mode, position: Position, number: int, *, reason: ResetReason | None = None, resumed: bool = False
) -> Message:
    """The event after which a client is up to date: `live`, or `count`."""
    if mode is Mode.COUNT:
        return count(position, number)
    body = f'"count":{number}'
    if resumed:
        body += ',"resumed":true'
    if reason is not None:
        body += f',"reason":"{reason.value}"'
    return Message("live", body, position)


def count(position: Position, number: int) -> Message:
    """The number of documents in the result set."""
    return Message("count", f'"count":{number}', position)


def commit(position: Position) -> bytes:
    """The frame that ends a batch for a bundle."""
    return sse.frame("{}", event="commit", id=position.id)
