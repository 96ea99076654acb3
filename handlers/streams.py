"""`GET /streams`: the streams that a client can open."""

from __future__ import annotations

import json

from brook.admission import Admission
from brook.catalog import StreamInfo
from brook.errors import InvalidParameter
from brook.source import Source
from handlers.base import RetryableHandler
from handlers.cors import Cors
from handlers.credentials import QUERY_PARAMETER, CredentialReader

# Maximum number of streams in the list: a database can have many thousands of collections.
MAX_STREAMS = 1000


class StreamsHandler(RetryableHandler):
    """Lists names, collections, modes, and the fields that a client may filter on."""

    def initialize(  # type: ignore[override]
        self,
        cors: Cors,
        admission: Admission,
        credentials: CredentialReader,
        source: Source,
        *,
        inserts: bool,
    ) -> None:
        super().initialize(cors)
        self._admission = admission
        self._credentials = credentials
        self._source = source
        self._inserts = inserts

    async def get(self) -> None:
        """Answer with the list. The collections of a whole database are those that exist now."""
        for name in self.query_as_text():
            if not (name == QUERY_PARAMETER and self._credentials.takes_query):
                raise InvalidParameter(f"unknown parameter {name[:50]!r}; /streams takes none")
        admitted = await self._admission.admit(self._credentials.read(self.request), ())
        found = {
            each.name: each for info in admitted.streams.catalog() for each in await self._existing(info)
        }
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        if self._admission.transport is not None:
            # Other credentials may open more streams (RFC 9110, 11.6.1): a page can offer a login.
            self.set_header("WWW-Authenticate", "Bearer")
        streams = [_shown(found[name]) for name in sorted(found)[:MAX_STREAMS]]
        sandbox = {"sandbox": True} if self._inserts else {}
        await self.finish(json.dumps({"streams": streams, **sandbox}))

    async def _existing(self, info: StreamInfo) -> list[StreamInfo]:
        database = info.all_of
        if database is None:
            return [info]
        return [info.of_collection(name) for name in await self._source.collections(database)]

    def compute_etag(self) -> None:
        """Return None, for no ETag: the list must not be cached."""


def _shown(info: StreamInfo) -> dict[str, object]:
    return {
        "name": info.name,
        "collection": info.collection,
        "modes": list(info.modes),
        "fields": None if info.fields is None else list(info.fields),
    }
