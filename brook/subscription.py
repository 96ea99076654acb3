"""A client's request as a value: equal requests are equal subscriptions, or bundles of them."""

from __future__ import annotations

import enum
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:  # the query language imports bson, and the demo must run without it
    from brook.query import Fields, Filter, Key, Sort

OPERATIONS = ("insert", "update", "replace", "delete")


class Format(enum.StrEnum):
    """The content of a frame's data: the document alone, or an envelope around it."""

    PLAIN = "plain"
    ENVELOPE = "envelope"


class Mode(enum.StrEnum):
    """The kind of stream: every change, a result set that stays true, or only its size."""

    CHANGES = "changes"
    LIVE = "live"
    COUNT = "count"


class Types(enum.StrEnum):
    """The notation of values that JSON lacks."""

    JSON = "json"
    EJSON = "ejson"


@dataclass(frozen=True, slots=True)
class Subscription:
    """The meaning of a request. Equal subscriptions share matching, rendering and bytes.

    `None` selects everything. `recipient` is 0 for shared events. For a source that plays to each client
    alone (the demo), each client has a number of its own, and the source addresses its batches with it.
    """

    recipient: int = 0
    namespaces: frozenset[str] | None = None
    operations: frozenset[str] | None = None
    ids: frozenset[Key] | None = None
    filter: Filter | None = None
    """With an access rule: the rule's filter and the client's, joined by `$and`."""
    rule: Filter | None = None
    """The access rule's filter alone: the documents that the client may know of; None for all."""
    fields: Fields | None = None
    format: Format = Format.PLAIN
    types: Types = Types.JSON
    before: bool = False
    mode: Mode = Mode.CHANGES
    sort: Sort | None = None
    limit: int = 0
    """Number of documents of a sorted result set that are shown, from the first; 0 for all."""
    every_ms: int = 0
    """Minimum time between two events of live mode; 0 for one event for each batch."""
    progress: bool = False
    """True if the client is sent its position each second while the log moves."""
    checkpoints: bool = True
    """True if the client may be sent blocks without data."""
    tag: str = ""
    """The name of this subscription in bundles; empty for a connection of its own."""

    @property
    def is_live(self) -> bool:
        """True if a result set is kept for it."""
        return self.mode is not Mode.CHANGES

    @property
    def core(self) -> Subscription:
        """The subscription without the options of its connection. Equal cores share a result set."""
        if not self.tag and not self.progress and self.checkpoints:
            return self
        return replace(self, tag="", progress=False, checkpoints=True)

    @property
    def index(self) -> tuple[str, Collection[Hashable]] | None:
        """A path and the values that an event may have there to match; None if no equality decides."""
        if self.recipient:
            return None
        if self.ids is not None:
            return "_id", self.ids
        # A subscription to an empty set of values is still sent resets, so its values cannot find it.
        equalities = self.filter.equalities.items() if self.filter is not None else ()
        # The condition with the fewest values is the most selective.
        return min(filter(itemgetter(1), equalities), key=lambda condition: len(condition[1]), default=None)

    @property
    def size(self) -> int:
        """Approximate bytes held. The client decides how many."""
        texts = [str(value) for _, value in self.ids or ()] + list(self.fields.names if self.fields else ())
        return 500 + sum(200 + len(text) for text in texts) + (self.filter.size if self.filter else 0)

    def selects(self, document: dict[str, Any]) -> bool:
        """True if a document passes the filter."""
        return self.filter is None or self.filter.matches(document)

    def includes(self, namespace: str) -> bool:
        """True if the subscription includes a collection, or a collection of a database."""
        if self.namespaces is None or namespace in self.namespaces:
            return True
        return any(name.startswith(namespace + ".") for name in self.namespaces)


@dataclass(frozen=True, slots=True)
class Bundle:
    """Several subscriptions on one connection, by their tags. Equal bundles share their bytes."""

    parts: tuple[Subscription, ...]

    recipient: ClassVar[int] = 0
    checkpoints: ClassVar[bool] = True
    is_live: ClassVar[bool] = True
    index: ClassVar[None] = None

    @property
    def progress(self) -> bool:
        """True if a part asks for it."""
        return any(part.progress for part in self.parts)

    @property
    def changes(self) -> Sequence[Subscription]:
        """The parts that are sent every change."""
        return [part for part in self.parts if not part.is_live]

    @property
    def size(self) -> int:
        """Approximate bytes held. The client decides how many."""
        return sum(part.size for part in self.parts)


Wanted = Subscription | Bundle
"""The request of one connection."""
