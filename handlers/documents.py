"""`GET /documents/{name}`: the documents that match a query now, as JSON, with their position in the log."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from tornado.iostream import StreamClosedError

from brook.admission import Admission, Lease
from brook.bundles import DEFAULT
from brook.errors import InvalidParameter, TokenExpired, UnknownStream
from brook.readiness import Readiness
from brook.settings import Settings
from brook.subscription import Subscription
from handlers.base import RetryableHandler
from handlers.cors import Cors
from handlers.credentials import QUERY_PARAMETER, CredentialReader

PARAMETERS = ("filter", "fields", "types", "sort", "limit")


class Listings(Protocol):
    """Reads the documents of a query. `brook/live/listing.py` implements it."""

    def listing(self, wanted: Subscription) -> AbstractAsyncContextManager[str]:
        """The JSON. Leave the context when the client has taken it. Raises ClientError."""


class DocumentsHandler(RetryableHandler):
    """Answers with the documents of a live query, without following it."""

    def initialize(  # type: ignore[override]
        self,
        cors: Cors,
        settings: Settings,
        admission: Admission,
        credentials: CredentialReader,
        readiness: Readiness,
        listings: Listings | None,
    ) -> None:
        super().initialize(cors)
        self._configuration = settings
        self._admission = admission
        self._credentials = credentials
        self._readiness = readiness
        self._listings = listings

    async def get(self, stream: str | None = None) -> None:
        """Read the collection at this moment."""
        if self._listings is None:
            raise UnknownStream("this server has no documents, only the script at /stream")
        credentials = self._credentials.read(self.request)
        admitted = await self._admission.admit(credentials, [stream or DEFAULT])
        wanted = admitted.streams.subscription(stream, self._parameters())
        self._readiness.check()
        async with self._listings.listing(wanted) as text:
            _check(admitted.lease)
            self.set_header("Content-Type", "application/json; charset=utf-8")
            self.set_header("Cache-Control", "no-store")
            await self._send(text)

    async def _send(self, text: str) -> None:
        """Send the answer. Without the time-out, a client that reads nothing would keep it in memory."""
        connection: Any = self.request.connection
        stream = connection.stream
        try:
            await asyncio.wait_for(self.finish(text), self._configuration.write_timeout_seconds)
        except TimeoutError:
            stream.close()
        except StreamClosedError:
            pass

    def compute_etag(self) -> None:
        """Return None, for no ETag: the position differs each time."""

    def _parameters(self) -> dict[str, list[str]]:
        parameters = self.query_as_text()
        if self._credentials.takes_query:
            parameters.pop(QUERY_PARAMETER, None)
        for name in parameters:
            if name not in PARAMETERS:
                raise InvalidParameter(
                    f"unknown parameter {name[:50]!r}; the parameters are: {', '.join(PARAMETERS)}"
                )
        return {**parameters, "mode": ["live"]}


def _check(lease: Lease | None) -> None:
    """Raise TokenExpired if the lease has ended. A request may wait for long before it is read."""
    if lease is not None and lease.expires <= time.time():
        raise TokenExpired(
            "the client's claims have ended, or have changed, while the documents were read: retry, with a "
            "new token if that has expired"
        )
