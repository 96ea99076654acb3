"""The way out: HTTP. Knows Tornado, and nothing of MongoDB."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import tornado.web

from handlers.base import NotFoundHandler, Service
from handlers.framing import Framings
from handlers.health import HealthHandler, ReadyHandler
from handlers.page import PageHandler
from handlers.stream import StreamHandler

log = logging.getLogger(__name__)


def routes(service: Service, static_path: Path) -> list[Any]:
    """The whole URL map."""
    serves = {"service": service}
    framings = Framings(compress=service.settings.compression == "gzip")
    files = {"path": str(static_path), **serves}
    return [
        (r"/()", PageHandler, {**files, "default_filename": "index.html"}),
        (r"/static/(.+)", PageHandler, files),
        (r"/stream(?:/([^/]+))?", StreamHandler, {**serves, "framings": framings}),
        (r"/healthz", HealthHandler, serves),
        (r"/readyz", ReadyHandler, serves),
        (r".*", NotFoundHandler, serves),
    ]


def application(service: Service, static_path: Path) -> tornado.web.Application:
    """The application. Compression stays off: Tornado's would hold back a stream's events."""
    return tornado.web.Application(routes(service, static_path), log_function=_log_request)


def _log_request(handler: tornado.web.RequestHandler) -> None:
    """One debug line, without the query: an id in it may hold a document's `_id`."""
    request = handler.request
    log.debug("%d %s %s", handler.get_status(), request.method, request.path)
