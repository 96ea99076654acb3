"""A collection in memory, and the change events of the writes to it. mongomock is the document store."""

from __future__ import annotations

import datetime
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

import bson
import mongomock
from bson.raw_bson import RawBSONDocument
from hypothesis import strategies as st

from brook.changes.change import Change
from brook.changes.resume_token import checkpoint, event_id, event_key
from brook.event import Batch, Position
from brook.namespaces import Namespaces
from brook.query import Sort
from brook.source import Source

KNOWN = Namespaces("pond", ["creatures"])
NS = {"db": "pond", "coll": "creatures"}

documents = st.fixed_dictionaries(
    {"type": st.sampled_from(["newt", "crawdad"]), "size": st.integers(0, 9)},
    optional={"mood": st.none() | st.text(max_size=3), "legs": st.lists(st.integers(0, 3), max_size=2)},
)
fields = st.dictionaries(
    st.sampled_from(["type", "size", "mood"]), st.integers(0, 9) | st.just("newt"), min_size=1
)
writes = st.tuples(
    st.sampled_from(["insert", "update", "replace", "delete"]), st.integers(0, 5), documents, fields
)


class Pond:
    """A collection. Each write has a cluster time of its own, one second after the one before."""

    def __init__(self) -> None:
        self.creatures: Any = mongomock.MongoClient().pond.creatures
        self.written = 0

    @property
    def now(self) -> Position:
        return checkpoint((self.written, 0))

    def write(
        self, operation: str, id: int | None, document: dict[str, Any], changed: dict[str, Any]
    ) -> list[Change]:
        """Write, and return MongoDB's change event; none if MongoDB would write nothing."""
        known = self.creatures.find_one({"_id": id})
        if (operation == "insert") == (known is not None):
            return []
        event: dict[str, Any] = {"operationType": operation, "ns": NS, "documentKey": {"_id": id}}
        match operation:
            case "insert":
                self.creatures.insert_one({"_id": id, **document})
            case "replace":
                self.creatures.replace_one({"_id": id}, {"_id": id, **document})
            case "update":
                self.creatures.update_one({"_id": id}, {"$set": changed})
                event["updateDescription"] = {"updatedFields": changed, "removedFields": []}
            case "delete":
                self.creatures.delete_one({"_id": id})
                event["fullDocumentBeforeChange"] = known
        if operation != "delete":
            event["fullDocument"] = self.creatures.find_one({"_id": id})
        self.written += 1
        event["wallTime"] = datetime.datetime.fromtimestamp(self.written, datetime.UTC)
        token = f"82{self.written:08X}0000000004"
        return [Change(event_id(token), operation, bson.encode(event), event_key(token, 0))]


class PondSource(Source):
    """Reads the collection as it is now. A test publishes all writes before it lets a read go on."""

    has_documents = True

    def __init__(self, pond: Pond) -> None:
        self.pond = pond
        self.reads = 0

    async def events(self) -> AsyncIterator[Batch]:
        raise NotImplementedError
        yield

    async def snapshot(
        self, namespace: str, query: bytes, at: Position, *, sort: bytes = b"", limit: int = 0
    ) -> AsyncGenerator[Sequence[bytes]]:
        assert at == self.pond.now
        self.reads += 1
        wanted = RawBSONDocument(query)
        # One document in a part: so writes and cuts come between them.
        found = list(self.pond.creatures.find(bson.decode(wanted.raw)))
        if sort:
            # mongomock sorts arrays in its own way.
            found.sort(key=Sort(tuple(bson.decode(sort).items())).place)
        for document in found[: limit or None]:
            yield [bson.encode(document)]
