"""Documents for the rules that need changes: written, and removed at the end."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pymongo

PREFIX = "conformance-"


class Writer:
    """Writes to the collection of the stream. Every `_id` begins with a text of this run alone."""

    def __init__(self, client: pymongo.MongoClient[dict[str, Any]], namespace: str) -> None:
        from pymongo import WriteConcern

        database, _, collection = namespace.partition(".")
        self.namespace = namespace
        self._client = client
        self._collection = client[database].get_collection(collection, write_concern=WriteConcern("majority"))
        self._run = PREFIX + uuid.uuid4().hex[:12]

    @classmethod
    def connect(cls, uri: str, namespace: str) -> Writer:
        """Connect. Raises ImportError without PyMongo, and PyMongo's errors."""
        import pymongo

        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(uri, serverSelectionTimeoutMS=5000)
        client.admin.command("ping")
        return cls(client, namespace)

    def ids(self, count: int) -> list[str]:
        """New `_id`s: a stream with them as its `id` hears of nothing else."""
        return [f"{self._run}-{uuid.uuid4().hex[:12]}" for _ in range(count)]

    def insert(self, id: str, **fields: Any) -> dict[str, Any]:
        document = {"_id": id, **fields}
        self._collection.insert_one(dict(document))
        return document

    def update(self, id: str, **fields: Any) -> None:
        self._collection.update_one({"_id": id}, {"$set": fields})

    def replace(self, id: str, **fields: Any) -> dict[str, Any]:
        self._collection.replace_one({"_id": id}, fields)
        return {"_id": id, **fields}

    def delete(self, id: str) -> None:
        self._collection.delete_one({"_id": id})

    def position(self) -> str:
        """The position of a write of now, as any backend can make it from `operationTime`."""
        with self._client.start_session(causal_consistency=True) as session:
            self._collection.insert_one({"_id": self.ids(1)[0]}, session=session)
            time = session.operation_time
        assert time is not None
        return f"t{time.time}.{time.inc}"

    def close(self) -> None:
        """Remove the documents of this run."""
        self._collection.delete_many({"_id": {"$regex": f"^{self._run}-"}})
        self._client.close()
