"""A client's request as a value: equal requests are equal subscriptions."""

from __future__ import annotations

import enum
from collections.abc import Collection, Hashable
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the query language imports bson, and the demo must run without it
    from brook.query import Fields, Filter, Key

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

    `None` stands for everything. `recipient` is 0 for shared events. A source that plays to each client
    alone (the demo) gives each client a number of its own, and addresses its batches with it.
    """

    recipient: int = 0
    namespaces: frozenset[str] | None = None
    operations: frozenset[str] | None = None
    ids: frozenset[Key] | None = None
    filter: Filter | None = None
    fields: Fields | None = None
    format: Format = Format.PLAIN
    types: Types = Types.JSON
    before: bool = False
    mode: Mode = Mode.CHANGES
    progress: bool = False
    """True if the client is sent its position each second while the log moves."""
    checkpoints: bool = True
    """True if the client may be sent blocks without data."""

    @property
    def is_live(self) -> bool:
        """True if a result set is kept for it."""
        return self.mode is not Mode.CHANGES

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

    def includes(self, namespace: str) -> bool:
        """True if the subscription includes a collection, or a collection of a database."""
        if self.namespaces is None or namespace in self.namespaces:
            return True
        return any(name.startswith(namespace + ".") for name in self.namespaces)
