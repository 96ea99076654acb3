"""The sources of events: MongoDB, the demo and the sandbox. Imports nothing of HTTP."""

from __future__ import annotations

import asyncio

from brook.errors import OperatorError
from brook.settings import Settings
from brook.source import Source
from sources.demo import DemoSource


def ask_for_collection(uri: str, database: str) -> OperatorError:
    """Return the error that asks for a collection of the database, and lists the existing ones."""
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
