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
    """The server's own HTTP client. Create it while the event loop runs."""

    def __init__(self) -> None:
        self._client = SimpleAsyncHTTPClient(
            force_instance=True, max_clients=MAX_CLIENTS, max_body_size=MAX_BYTES, max_header_size=64 * 1024
        )

    async def fetch(self, url: str) -> bytes:
        """Return the body at a URL. Raises FetchFailed, also for a status other than 200."""
        status, body = await self.ask(url, {})
        if status != 200:
            raise FetchFailed(f"the answer has status {status}")
        return body

    async def ask(self, url: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Return status and body of an answer of any status. Raises FetchFailed if there is none."""
        # A redirect is not followed: it would send a browser's cookies to a server that is not configured.
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
        """Close its connections."""
        self._client.close()


def _reason(error: BaseException) -> str:
    """The error in one line, without the URL, which may contain a password."""
    if isinstance(error, HTTPClientError) and error.code == 599:
        return f"no answer: {error.message}"
    if isinstance(error, OSError) and error.strerror:
        return f"no connection: {error.strerror}"
    return f"no readable answer: {type(error).__name__}"
