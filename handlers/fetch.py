"""Requests to other servers, for keys and for claims: asynchronous, and bounded in time, size and number."""

from __future__ import annotations

from collections.abc import Mapping

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from brook.errors import FetchFailed

TIMEOUT_SECONDS = 5.0
MAX_BYTES = 1024 * 1024
MAX_CLIENTS = 64


class Fetcher:
    """The server's own HTTP client. Create it in the event loop."""

    def __init__(self) -> None:
        self._client = SimpleAsyncHTTPClient(
            force_instance=True, max_clients=MAX_CLIENTS, max_body_size=MAX_BYTES, max_header_size=64 * 1024
        )

    async def fetch(self, url: str) -> bytes:
        """Return the body at an address. Raises FetchFailed."""
        status, body = await self.ask(url, {})
        if status != 200:
            raise FetchFailed(f"the answer has status {status}")
        return body

    async def ask(self, url: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Return status and body of an answer of any status. Raises FetchFailed if there is none."""
        # A redirection would pass a browser's cookies on to a server that nobody configured.
        request = HTTPRequest(
            url,
            headers=dict(headers),
            connect_timeout=TIMEOUT_SECONDS,
            request_timeout=TIMEOUT_SECONDS,
            follow_redirects=False,
            decompress_response=False,
        )
        try:
            answer = await self._client.fetch(request, raise_error=False)
        except (OSError, ValueError, HTTPClientError) as error:
            raise FetchFailed(_reason(error)) from None
        if answer.error is not None and answer.code == 599:
            raise FetchFailed(_reason(answer.error))
        return answer.code, answer.body

    def close(self) -> None:
        """Give back its connections."""
        self._client.close()


def _reason(error: BaseException) -> str:
    """One line without the address, which may have a password in it."""
    if isinstance(error, HTTPClientError) and error.code == 599:
        return f"no answer: {error.message}"
    if isinstance(error, OSError) and error.strerror:
        return f"no connection: {error.strerror}"
    return f"no answer that can be read: {type(error).__name__}"
