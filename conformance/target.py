"""An address, and single requests to it."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Query = Mapping[str, str | list[str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. The names of the headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, parsed; None if it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Target:
    """The address of a server, `http://HOST:PORT` with an optional path in front of its own."""

    address: str
    token: str = ""
    timeout_seconds: float = 10.0

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection that is not open yet."""
        url = urllib.parse.urlsplit(self.address)
        if url.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(url.netloc, timeout=self.timeout_seconds, context=context)
        return http.client.HTTPConnection(url.netloc, timeout=self.timeout_seconds)

    def send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> http.client.HTTPResponse:
        """Send a request; its answer, with the body still to be read."""
        prefix = urllib.parse.urlsplit(self.address).path.rstrip("/")
        text = urllib.parse.urlencode(query or {}, doseq=True)
        all_headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        all_headers |= headers or {}
        connection.request(method, prefix + path + (f"?{text}" if text else ""), body, all_headers)
        return connection.getresponse()

    def ask(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Send a request and read its whole answer; a stream's head alone, since it has no end."""
        connection = self.connect()
        try:
            response = self.send(connection, method, path, query, headers, body)
            is_stream = response.headers.get_content_type() == "text/event-stream"
            rest = b"" if is_stream else response.read()
            return Answer(response.status, lower(response), rest)
        finally:
            connection.close()


def lower(response: http.client.HTTPResponse) -> dict[str, str]:
    """The headers of an answer by their names in lower case."""
    return {name.lower(): value for name, value in response.getheaders()}
