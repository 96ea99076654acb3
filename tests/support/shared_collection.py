"""A collection of two tenants under random writes, and the words that each of them may know."""

from __future__ import annotations

import random
from typing import Any

from bson import ObjectId
from pymongo.errors import PyMongoError

OWNERS = ("alpha", "beta")


class SharedCollection:
    """Every text in a document is a word that occurs nowhere else. `known` has the owners of each word."""

    def __init__(self, client: Any, collection: Any, chance: random.Random) -> None:
        self.known: dict[str, set[str]] = {}
        self.writes = 0
        self._client = client
        self._collection = collection
        self._chance = chance
        self._owner_of: dict[Any, str] = {}

    def write(self, *, may_drop: bool = True) -> None:
        """Write once, at random."""
        self.writes += 1
        kinds = ["insert"] * 4 + ["update"] * 6 + ["move"] * 4 + ["replace"] * 2 + ["delete"] * 2
        kinds += ["transaction"] * 2 + (["drop"] if may_drop and self._chance.random() < 0.1 else [])
        kind = self._chance.choice(kinds)
        if not self._owner_of or kind == "insert":
            self._insert()
        elif kind == "transaction":
            self._transact()
        elif kind == "drop":
            self._collection.drop()
            self._owner_of.clear()
            self.create()
        else:
            self._change(kind, self._chance.choice(list(self._owner_of)))

    def create(self) -> None:
        """Make the collection, with pre-images."""
        database = self._collection.database
        database.create_collection(
            self._collection.name, changeStreamPreAndPostImages={"enabled": True}, check_exists=False
        )

    def of(self, owner: str) -> dict[Any, Any]:
        """The documents that an owner has now."""
        return {document["_id"]: document for document in self._collection.find({"owner": owner})}

    def foreign_words(self, owner: str) -> set[str]:
        """The words that an owner may not know."""
        return {word for word, owners in self.known.items() if owner not in owners}

    def _word(self, owner: str) -> str:
        word = f"w{self._chance.getrandbits(64):016x}"
        self.known[word] = {owner}
        return word

    def _document(self, owner: str) -> dict[str, Any]:
        return {"owner": owner, "note": self._word(owner), "more": {"list": [self._word(owner)]}, "n": 1}

    def _insert(self) -> None:
        owner = self._chance.choice(OWNERS)
        id: Any = self._chance.choice([self._word(owner), {"a": self._word(owner)}, ObjectId()])
        self._collection.insert_one({"_id": id, **self._document(owner)})
        key = self._keep(id)
        self._owner_of[key] = owner
        if isinstance(id, ObjectId):
            self.known[str(id)] = {owner}

    def _keep(self, id: Any) -> Any:
        return id if not isinstance(id, dict) else _Embedded(id)

    def _change(self, kind: str, key: Any, session: Any = None) -> None:
        id = key.value if isinstance(key, _Embedded) else key
        owner = self._owner_of[key]
        where = {"_id": id}
        if kind == "delete":
            self._collection.delete_one(where, session=session)
            del self._owner_of[key]
        elif kind == "replace":
            self._collection.replace_one(where, self._document(owner), session=session)
        elif kind == "move":
            other = OWNERS[1 - OWNERS.index(owner)]
            self._collection.update_one(where, {"$set": self._document(other)}, session=session)
            self._owner_of[key] = other
            self.known[_text(id)].add(other)
        else:
            change = {"$set": {"note": self._word(owner)}, "$inc": {"n": 1}}
            if self._chance.random() < 0.3:
                change = {"$push": {"more.list": self._word(owner)}}
            self._collection.update_one(where, change, session=session)

    def _transact(self) -> None:
        keys = self._chance.sample(list(self._owner_of), min(4, len(self._owner_of)))
        before, known = dict(self._owner_of), {word: set(owners) for word, owners in self.known.items()}
        try:
            with self._client.start_session() as session, session.start_transaction():
                for key in keys:
                    self._change(self._chance.choice(["update", "move", "move", "delete"]), key, session)
                if self._chance.random() < 0.2:
                    raise _Undone
        except (_Undone, PyMongoError):
            # An aborted transaction tells nobody anything.
            self._owner_of = before
            for word in self.known:
                self.known[word] = known.get(word, set())


class _Undone(Exception):
    pass


class _Embedded:
    """An `_id` that is a document, as a key."""

    def __init__(self, value: dict[str, Any]) -> None:
        self.value = value


def _text(id: Any) -> str:
    return str(id["a"] if isinstance(id, dict) else id)
