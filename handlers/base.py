"""The base of all handlers: errors as problem documents, and CORS."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from types import TracebackType
from typing import Any

import tornado.web
from tornado.iostream import StreamClosedError

from brook.errors import ClientError, InvalidParameter, NotFound, Unavailable
from handlers.cors import PREFLIGHT_SECONDS, Cors

log = logging.getLogger(__name__)

# An answer may repeat parts of the request, or of a document that a stranger wrote. A browser must not run it
# as a page, embed it, or send its URL, with the filters in it, to another site.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}

# The only place that maps errors to HTTP statuses.
STATUS = {
    "bad-request": HTTPStatus.BAD_REQUEST,
    "invalid-parameter": HTTPStatus.BAD_REQUEST,
    "invalid-id": HTTPStatus.BAD_REQUEST,
    "invalid-filter": HTTPStatus.BAD_REQUEST,
    "unauthenticated": HTTPStatus.UNAUTHORIZED,
    "token-invalid": HTTPStatus.UNAUTHORIZED,
    "token-expired": HTTPStatus.UNAUTHORIZED,
    "forbidden": HTTPStatus.FORBIDDEN,
    "unknown-stream": HTTPStatus.NOT_FOUND,
    "not-found": HTTPStatus.NOT_FOUND,
    "body-too-large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "uri-too-long": HTTPStatus.REQUEST_URI_TOO_LONG,
    "foreign-host": HTTPStatus.MISDIRECTED_REQUEST,
    "not-ready": HTTPStatus.SERVICE_UNAVAILABLE,
    "draining": HTTPStatus.SERVICE_UNAVAILABLE,
    "too-many-connections": HTTPStatus.TOO_MANY_REQUESTS,
    "snapshot-too-large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}


def problem(status: HTTPStatus, code: str, detail: str) -> dict[str, Any]:
    """A problem document (RFC 9457)."""
    return {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "code": code,
        "detail": detail,
    }


def problem_of(error: ClientError) -> dict[str, Any]:
    """The problem document for a client's error."""
    document = problem(STATUS[error.code], error.code, str(error))
    if error.at:
        document["at"] = error.at
    return document


class ProblemHandler(tornado.web.RequestHandler):
    """Answers errors with problem documents, and preflights with 204."""

    allowed_methods = "GET, OPTIONS"
    cross_origin_methods = "GET, OPTIONS"

    problem_code = ""
    """The code of the problem with which the request was refused; empty if it was not."""

    def initialize(self, cors: Cors) -> None:
        self._cors = cors

    def prepare(self) -> None:
        """Set the common headers. Not in `set_default_headers`, which runs before `initialize`."""
        self._common_headers()

    def options(self, *_: str) -> None:
        """Answer a CORS preflight, which asks if a page of this origin may send these headers."""
        self.set_header("Access-Control-Allow-Methods", self.cross_origin_methods)
        self.set_header("Access-Control-Max-Age", str(PREFLIGHT_SECONDS))
        self.set_status(HTTPStatus.NO_CONTENT)

    def query_as_text(self) -> dict[str, list[str]]:
        """The values of the query parameters, by name. Raises InvalidParameter if one is not UTF-8."""
        parameters = {}
        for name, values in self.request.query_arguments.items():
            try:
                parameters[name] = [value.decode() for value in values]
            except UnicodeDecodeError:
                raise InvalidParameter(f"the parameter {name[:50]!r} is not UTF-8") from None
        return parameters

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with a problem document; never with a traceback."""
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        self._common_headers()
        self.set_header("Content-Type", "application/problem+json")
        if isinstance(error, ClientError):
            body = problem_of(error)
            self.set_status(body["status"])
        else:
            status = HTTPStatus(status_code)
            code = "not-found" if status == HTTPStatus.NOT_FOUND else status.phrase.lower().replace(" ", "-")
            body = problem(status, code, "see the server log" if status >= 500 else status.description)
        if self.get_status() == HTTPStatus.UNAUTHORIZED:
            self.set_header("WWW-Authenticate", "Bearer")
        self.problem_code = str(body["code"])
        if status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", self.allowed_methods)
        self.finish(json.dumps(body))

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Log the server's own faults. A client's error is in its response, if the client is still there."""
        if not isinstance(value, (ClientError, tornado.web.HTTPError, StreamClosedError)):
            # Tornado's own line would quote the query, which may hold a token, a filter or a document's _id.
            log.error("%s %s failed", self.request.method, self.request.path, exc_info=value)

    def _common_headers(self) -> None:
        self.clear_header("Server")
        for name, value in SECURITY_HEADERS.items():
            self.set_header(name, value)
        for name, value in self._cors.headers(self.request.headers.get("Origin")).items():
            self.set_header(name, value)


class RetryableHandler(ProblemHandler):
    """Adds `Retry-After` to the answer of an error that passes."""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        if "exc_info" in kwargs and isinstance(kwargs["exc_info"][1], Unavailable):
            self.set_header("Retry-After", "1")
        super().write_error(status_code, **kwargs)


class NotFoundHandler(ProblemHandler):
    """Answers every unknown path."""

    def prepare(self) -> None:
        """Raise NotFound for every method."""
        super().prepare()
        raise NotFound(f"there is nothing at {self.request.path}; the events are at /stream")
