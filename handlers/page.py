"""The page that shows the stream, and its static files."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import tornado.web

from handlers.base import ProblemHandler
from handlers.cors import Cors

# The page shows documents that strangers may have written. No script in them runs, and the browser loads only
# the page's own files.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class PageHandler(ProblemHandler, tornado.web.StaticFileHandler):
    """Serves the page and its files."""

    allowed_methods = "GET, HEAD, OPTIONS"

    def initialize(self, cors: Cors, **kwargs: Any) -> None:  # type: ignore[override]
        ProblemHandler.initialize(self, cors)
        tornado.web.StaticFileHandler.initialize(self, **kwargs)

    def parse_url_path(self, url_path: str) -> str:
        """The path of the file. A NUL is refused here: the operating system's call would raise ValueError."""
        if "\0" in url_path:
            raise tornado.web.HTTPError(HTTPStatus.NOT_FOUND)
        return super().parse_url_path(url_path)

    def send_error(self, status_code: int = HTTPStatus.INTERNAL_SERVER_ERROR, **kwargs: Any) -> None:
        """Respond with 404 for a path outside of the folder. Tornado would respond with 403."""
        outside = status_code == HTTPStatus.FORBIDDEN
        super().send_error(HTTPStatus.NOT_FOUND if outside else status_code, **kwargs)

    def set_extra_headers(self, path: str) -> None:
        """Set the headers that protect and revalidate the page."""
        self.set_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        self.set_header("Cache-Control", "no-cache")
