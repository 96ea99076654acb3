"""The way out: HTTP. Knows Tornado, and nothing of MongoDB."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import tornado.web

from handlers.base import NotFoundHandler, Service
from handlers.descriptors import Descriptors
from handlers.framing import Framings
from handlers.health import HealthHandler, ReadyHandler
from handlers.page import PageHandler
from handlers.stream import StreamHandler

log = logging.getLogger(__name__)


def routes(service: Service, static_path: Path, descriptors: Descriptors) -> list[Any]:
    """The whole URL map."""
    serves = {"service": service}
    framings = Framings(compress=service.settings.compression == "gzip")
    files = {"path": str(static_path), **serves}
    stream = {**serves, "framings": framings, "descriptors": descriptors}
    return [
        (r"/()", PageHandler, {**files, "default_filename": "index.html"}),
        (r"/static/(.+)", PageHandler, files),
        (r"/stream(?:/([^/]+))?", StreamHandler, stream),
        (r"/healthz", HealthHandler, serves),
        (r"/readyz", ReadyHandler, {**serves, "descriptors": descriptors}),
        (r".*", NotFoundHandler, serves),
    ]


def application(
    service: Service, static_path: Path, descriptors: Descriptors | None = None
) -> tornado.web.Application:
    """The application. Compression stays off: Tornado's would hold back a stream's events."""
    urls = routes(service, static_path, descriptors or Descriptors.of_this_process())
    return tornado.web.Application(urls, log_function=_log_request)


def _log_request(handler: tornado.web.RequestHandler) -> None:
    """One debug line, without the query: an id in it may hold a document's `_id`."""
    request = handler.request
    log.debug("%d %s %s", handler.get_status(), request.method, request.path)
