"""The collections that the operator named: nothing else is ever streamed."""

from __future__ import annotations

from collections.abc import Iterable

from brook.errors import SettingsError, UnknownStream

ALL = "*"


class Namespaces:
    """Collections by database. `default` is the database that a bare collection name means."""

    def __init__(self, default: str, collections: Iterable[str], others: Iterable[str] = ()) -> None:
        self.default = default
        self.by_database: dict[str, set[str]] = {default: set(collections)}
        for name in others:
            database, _, collection = name.partition(".")
            if not database or not collection:
                raise SettingsError(
                    f"--namespace takes a database and a collection, db.coll or db.*, got {name!r}"
                )
            self.by_database.setdefault(database, set()).add(collection)

    def find(self, name: str) -> str:
        """The namespace that a request names: `db.coll`, or a collection of the default database.

        Raises UnknownStream for what was not named by the operator, whether it exists or not.
        """
        database, _, collection = name.partition(".")
        if self._holds(database, collection):
            return name
        if self._holds(self.default, name):
            return f"{self.default}.{name}"
        raise UnknownStream(
            f"there is no stream {name[:100]!r}; the operator names the collections that are streamed"
        )

    def _holds(self, database: str, collection: str) -> bool:
        collections = self.by_database.get(database, set())
        if not collection or collection.startswith("system."):
            return False
        return collection in collections or ALL in collections

    def __str__(self) -> str:
        names = ((database, name) for database, names in self.by_database.items() for name in sorted(names))
        return ", ".join(f"{database}.{name}" for database, name in names)
