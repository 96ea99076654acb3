"""The description of a stream that a request can name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from brook.subscription import Mode

ALL = "*"
"""In the place of a collection's name: all collections of the database."""


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One stream, as `GET /streams` lists it."""

    name: str
    """The name in `/stream/{name}`; empty for `/stream`. For `*`, insert the name of a collection."""
    collection: str | None
    """`db.coll`, or `db.*`; None if the stream has no collection."""
    modes: Sequence[str] = tuple(Mode)
    fields: Sequence[str] | None = None
    """The fields that a client may filter and sort on; None for all."""

    @property
    def all_of(self) -> str | None:
        """The database, if this stands for all of its collections; None for a single stream."""
        database, _, name = (self.collection or "").partition(".")
        return database if name == ALL else None

    def of_collection(self, name: str) -> StreamInfo:
        """The stream of one collection of the database."""
        return replace(self, name=self.name.removesuffix(ALL) + name, collection=f"{self.all_of}.{name}")
