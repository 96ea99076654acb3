"""`GET /streams`: the streams that a client can open."""

from __future__ import annotations

import json

from brook.catalog import StreamInfo
from brook.errors import InvalidParameter
from brook.source import Source
from brook.streams import Streams
from handlers.base import RetryableHandler
from handlers.cors import Cors

# More names are of no use in a list, and a database can have many thousands.
MAX_STREAMS = 1000


class StreamsHandler(RetryableHandler):
    """Lists names, collections, modes, and the fields that a client may filter on."""

    def initialize(self, cors: Cors, streams: Streams, source: Source) -> None:  # type: ignore[override]
        super().initialize(cors)
        self._streams = streams
        self._source = source

    async def get(self) -> None:
        """Answer with the list. The collections of a whole database are those that exist now."""
        for name in self.query_as_text():
            raise InvalidParameter(f"unknown parameter {name[:50]!r}; /streams takes none")
        found = {each.name: each for info in self._streams.catalog() for each in await self._existing(info)}
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        streams = [_shown(found[name]) for name in sorted(found)[:MAX_STREAMS]]
        await self.finish(json.dumps({"streams": streams}))

    async def _existing(self, info: StreamInfo) -> list[StreamInfo]:
        database = info.all_of
        if database is None:
            return [info]
        return [info.of_collection(name) for name in await self._source.collections(database)]

    def compute_etag(self) -> None:
        """None: nothing of it may be cached."""


def _shown(info: StreamInfo) -> dict[str, object]:
    return {
        "name": info.name,
        "collection": info.collection,
        "modes": list(info.modes),
        "fields": None if info.fields is None else list(info.fields),
    }
