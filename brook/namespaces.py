"""The collections that the operator named. The server streams no other collection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import unquote_plus

from brook.catalog import ALL, StreamInfo
from brook.errors import InvalidParameter, UnknownStream
from brook.settings import OF_MONGODB_ITSELF, Settings

# Number of names in one message. More would fill the screen.
MAX_NAMES = 10


class Namespaces:
    """Collections by database. A name without a database belongs to the database `default`."""

    def __init__(self, default: str, collections: Iterable[str], others: Iterable[str] = ()) -> None:
        self.default = default
        self.by_database: dict[str, set[str]] = {default: set(collections)}
        for name in others:
            database, _, collection = name.partition(".")
            self.by_database.setdefault(database, set()).add(collection)

    @classmethod
    def of(cls, settings: Settings) -> Namespaces:
        """Return the collections that the settings name."""
        return cls(settings.database, settings.collection, settings.namespace)

    def find(self, name: str) -> str:
        """Return the namespace for a name in a request: `db.coll`, or a collection of the default database.

        Raises UnknownStream if the operator did not name it, even if the collection exists.
        """
        database, _, collection = name.partition(".")
        if self.hold(database, collection):
            return name
        if self.hold(self.default, name):
            return f"{self.default}.{name}"
        raise UnknownStream(f"there is no stream {name[:100]!r}; {listed(self.catalog())}")

    def catalog(self) -> list[StreamInfo]:
        """Return the streams that a request can name."""
        return [
            StreamInfo(name if database == self.default else f"{database}.{name}", f"{database}.{name}")
            for database, names in self.by_database.items()
            for name in sorted(names)
        ]

    def one(self, stream: str | None) -> str:
        """Return the single collection of a stream. Raises UnknownStream, or InvalidParameter if it has
        several.
        """
        if stream is not None:
            return self.find(stream)
        known = self._all()
        if len(known) != 1 or known[0].endswith("." + ALL):
            raise InvalidParameter("mode=live and mode=count need one collection: use /stream/{collection}")
        return known[0]

    def only(self, names: Iterable[str]) -> frozenset[str] | None:
        """Apply `find` to each name. Returns None if the result is every collection of the server."""
        wanted = frozenset(map(self.find, names))
        return None if wanted == set(self._all()) else wanted

    def hold(self, database: str, collection: str | None) -> bool:
        """Return True if the operator named the collection; for None, any collection of the database."""
        collections = self.by_database.get(database, set())
        if collection is None:
            return bool(collections)
        if not collection or collection == ALL or collection.startswith("system."):
            return False
        return collection in collections or ALL in collections

    def _all(self) -> list[str]:
        collections = self.by_database.items()
        return [f"{database}.{name}" for database, names in collections for name in sorted(names)]

    def __str__(self) -> str:
        return ", ".join(self._all())


def named_database(uri: str) -> str:
    """Return the database of a MongoDB URI; empty if it names none or is malformed."""
    _, _, behind_host = uri.partition("://")[2].partition("?")[0].partition("/")
    # The driver also accepts a collection after a dot.
    name = unquote_plus(behind_host).partition(".")[0]
    # The name may be the rest of a password that contains a slash.
    is_none = name in OF_MONGODB_ITSELF or bool(set(name) & set('/\\@:" $\0'))
    return "" if is_none else name


def listed(catalog: Sequence[StreamInfo]) -> str:
    """List the streams for a message, the first ones only if there are many."""
    return f"there are: {first_names([info.name for info in catalog])}" if catalog else "there are none"


def first_names(names: Sequence[str]) -> str:
    """List the first names for a message, and count the others."""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
