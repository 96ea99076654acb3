"""What a client asked for, in a form in which equal wishes are equal values."""

from __future__ import annotations

import enum
from collections.abc import Collection, Hashable
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the query language needs bson, and the demo must run without
    from brook.query import Fields, Filter, Key

OPERATIONS = ("insert", "update", "replace", "delete")


class Format(enum.StrEnum):
    """What a frame's data holds."""

    PLAIN = "plain"
    ENVELOPE = "envelope"


class Types(enum.StrEnum):
    """How values that JSON does not have are written."""

    JSON = "json"
    EJSON = "ejson"


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a request means. Equal subscriptions share matching, rendering and bytes.

    `None` stands for everything. `recipient` is 0 for what everybody may hear; a source that plays to
    each client alone (the demo) gives each its own number, and addresses its batches with it.
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
    checkpoints: bool = True
    """Whether blocks without data may be sent."""

    @property
    def index(self) -> tuple[str, Collection[Hashable]] | None:
        """A path and the values of which an event must have one there; None where it is not so simple."""
        if self.recipient:
            return None
        if self.ids is not None:
            return "_id", self.ids
        # Who asks for one of no values still has to hear of resets, so it cannot be found by its values.
        equalities = self.filter.equalities.items() if self.filter is not None else ()
        # The condition with the fewest values tells apart the most.
        return min(filter(itemgetter(1), equalities), key=lambda condition: len(condition[1]), default=None)

    @property
    def size(self) -> int:
        """Bytes that it holds on to, about: it is clients who choose how many."""
        texts = [str(value) for _, value in self.ids or ()] + list(self.fields.names if self.fields else ())
        return 500 + sum(200 + len(text) for text in texts) + (self.filter.size if self.filter else 0)

    def includes(self, namespace: str) -> bool:
        """Whether something about a collection, or a whole database, concerns this subscription."""
        if self.namespaces is None or namespace in self.namespaces:
            return True
        return any(name.startswith(namespace + ".") for name in self.namespaces)
