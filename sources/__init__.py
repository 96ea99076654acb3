"""The sources of events: MongoDB, the demo and the sandbox. Imports nothing of HTTP."""

from __future__ import annotations

import asyncio
from urllib.parse import unquote_plus

from brook.errors import OperatorError
from brook.settings import Settings
from brook.source import Source
from sources.demo import DemoSource

# In a URI, these databases say where the user is defined. They hold no documents to stream.
_OF_MONGODB_ITSELF = ("admin", "config", "local")


def named_database(uri: str) -> str:
    """Return the database of a MongoDB URI; empty if it names none or is malformed."""
    _, _, behind_host = uri.partition("://")[2].partition("?")[0].partition("/")
    # The driver also accepts a collection after a dot.
    name = unquote_plus(behind_host).partition(".")[0]
    # The name may be the rest of a password that contains a slash.
    is_none = name in _OF_MONGODB_ITSELF or bool(set(name) & set('/\\@:" $\0'))
    return "" if is_none else name


def ask_for_collection(uri: str, database: str) -> OperatorError:
    """Return the error that asks for a collection of the database, and names those that exist."""
    # A late import: the demo must run without the driver.
    from sources.mongo import choice

    return asyncio.run(choice.question(uri, database))


def open_source(settings: Settings, uri: str | None) -> Source:
    """Return the operator's source: MongoDB at `uri`, or the demo if it is None."""
    if uri is None:
        return DemoSource()
    # A late import: the demo must run without the driver.
    from sources.mongo import MongoSource

    return MongoSource(uri, settings)
