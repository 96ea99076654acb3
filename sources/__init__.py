"""The way in: where events are born. Knows nothing of HTTP."""

from __future__ import annotations

from urllib.parse import unquote_plus

from brook.settings import Settings
from brook.source import Source
from sources.demo import DemoSource

# In a URI, these are where the user was created; nobody has documents there to stream.
_OF_MONGODB_ITSELF = ("admin", "config", "local")


def named_database(uri: str) -> str:
    """The database that a MongoDB URI names; empty if none. A URI that is not well formed names none."""
    _, _, behind_host = uri.partition("://")[2].partition("?")[0].partition("/")
    # The driver takes a collection, too, behind a dot.
    name = unquote_plus(behind_host).partition(".")[0]
    # It might be a piece of a password with a slash in it.
    is_none = name in _OF_MONGODB_ITSELF or bool(set(name) & set('/\\@:" $\0'))
    return "" if is_none else name


def open_source(settings: Settings, uri: str | None) -> Source:
    """The source that the operator chose: MongoDB at `uri`, or the demo without one."""
    if uri is None:
        return DemoSource()
    # Imported only when asked for: the demo needs no driver.
    from sources.mongo import MongoSource

    return MongoSource(uri, settings)
