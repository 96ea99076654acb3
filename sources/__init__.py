"""The way in: where events are born. Knows nothing of HTTP."""

from __future__ import annotations

from brook.settings import Settings
from brook.source import Source
from sources.demo import DemoSource


def open_source(settings: Settings, uri: str | None) -> Source:
    """The source that the operator chose: MongoDB at `uri`, or the demo without one."""
    if uri is None:
        return DemoSource()
    # Imported only when asked for: the demo needs no driver.
    from sources.mongo import MongoSource

    return MongoSource(uri, settings)
