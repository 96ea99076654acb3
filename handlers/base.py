"""What all handlers share: errors as problem documents, and CORS."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any

import tornado.web

from brook.delivery.subscribers import SubscriberList
from brook.errors import ClientError, NotFound
from brook.feed import Feed
from brook.settings import Settings
from brook.source import Source
from handlers.cors import cors_headers

log = logging.getLogger(__name__)

# The only place where HTTP statuses are given to errors.
STATUS = {
    "bad-request": HTTPStatus.BAD_REQUEST,
    "invalid-parameter": HTTPStatus.BAD_REQUEST,
    "invalid-id": HTTPStatus.BAD_REQUEST,
    "invalid-filter": HTTPStatus.BAD_REQUEST,
    "unknown-stream": HTTPStatus.NOT_FOUND,
    "not-found": HTTPStatus.NOT_FOUND,
    "not-ready": HTTPStatus.SERVICE_UNAVAILABLE,
    "draining": HTTPStatus.SERVICE_UNAVAILABLE,
    "too-many-connections": HTTPStatus.TOO_MANY_REQUESTS,
}


@dataclass(slots=True)
class Service:
    """What the handlers serve; built in `server.py`."""

    settings: Settings
    source: Source
    feed: Feed
    subscribers: SubscriberList
    draining: bool = False

    def troubles(self) -> list[str]:
        """Why new clients should go elsewhere just now; empty when they should not."""
        return (["the server is stopping"] if self.draining else []) + self.feed.troubles()


def problem(code: str, detail: str) -> dict[str, Any]:
    """A problem document (RFC 9457)."""
    status = STATUS[code]
    return {
        "type": "about:blank", "title": status.phrase, "status": status.value, "code": code, "detail": detail
    }  # fmt: skip


class ProblemHandler(tornado.web.RequestHandler):
    """Answers errors with problem documents, and preflights with 204."""

    service: Service
    allowed_methods = "GET, OPTIONS"

    def initialize(self, service: Service) -> None:
        """Take what `server.py` has built."""
        self.service = service

    def prepare(self) -> None:
        """Set what every answer has. Not in `set_default_headers`, which runs before `initialize`."""
        self._common_headers()

    def options(self, *_: str) -> None:
        """A CORS preflight: "may a page of this origin send these headers?"."""
        self.set_header("Access-Control-Allow-Methods", "GET, OPTIONS")
        self.set_status(HTTPStatus.NO_CONTENT)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """The error as a problem document; never a traceback."""
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        self._common_headers()
        self.set_header("Content-Type", "application/problem+json")
        if isinstance(error, ClientError):
            body = problem(error.code, str(error))
            self.set_status(body["status"])
        else:
            status = HTTPStatus(status_code)
            code = "not-found" if status == HTTPStatus.NOT_FOUND else status.phrase.lower().replace(" ", "-")
            detail = "the log of the server says more" if status >= 500 else status.description
            body = {
                "type": "about:blank", "title": status.phrase, "status": status.value, "code": code,
                "detail": detail,
            }  # fmt: skip
        if status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", self.allowed_methods)
        self.finish(json.dumps(body))

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Faults of ours only: a client's is told to the client."""
        if not isinstance(value, (ClientError, tornado.web.HTTPError)):
            # Tornado's own line has the query in it, and that an id, and that a document's _id.
            log.error("%s %s failed", self.request.method, self.request.path, exc_info=value)

    def _common_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("X-Content-Type-Options", "nosniff")
        for name, value in cors_headers(self.service.settings, self.request.headers.get("Origin")).items():
            self.set_header(name, value)


class NotFoundHandler(ProblemHandler):
    """Every path that leads nowhere."""

    def prepare(self) -> None:
        """Whatever the method, there is nothing here."""
        super().prepare()
        raise NotFound(f"there is nothing at {self.request.path}; the events are at /stream")
