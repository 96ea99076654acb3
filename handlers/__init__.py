"""The HTTP side of the server: Tornado request handlers. Imports nothing of MongoDB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tornado.web

from brook.delivery.subscribers import SubscriberList
from brook.readiness import Readiness
from brook.settings import Settings
from brook.source import Source
from brook.streams import Streams
from handlers.base import NotFoundHandler
from handlers.cors import Cors
from handlers.descriptors import Descriptors
from handlers.documents import DocumentsHandler, Listings
from handlers.framing import Framings
from handlers.head import Heads
from handlers.health import HealthHandler, ReadyHandler
from handlers.hosts import HostApplication
from handlers.limits import Limits
from handlers.metrics import Metrics, MetricsHandler
from handlers.page import PageHandler
from handlers.refusals import Refusals
from handlers.stream import StreamHandler
from handlers.streams import StreamsHandler
from handlers.watcher import Watcher


def application(
    settings: Settings,
    streams: Streams,
    source: Source,
    subscribers: SubscriberList,
    readiness: Readiness,
    static_path: Path,
    descriptors: Descriptors | None = None,
    metrics: Metrics | None = None,
    listings: Listings | None = None,
    limits: Limits | None = None,
) -> tornado.web.Application:
    """Return the Tornado application with all routes. Tornado's compression is off: it would delay events."""
    descriptors = descriptors or Descriptors.of_this_process()
    limits = limits or Limits(settings)
    cors = Cors(settings.cors_origin)
    common = {"cors": cors}
    files = {"path": str(static_path), **common}
    stream = {
        "settings": settings,
        "streams": streams,
        "source": source,
        "subscribers": subscribers,
        "readiness": readiness,
        "framings": Framings(compress=settings.compression == "gzip"),
        "heads": Heads(cors),
        "descriptors": descriptors,
        "limits": limits,
        "watcher": Watcher(),
        **common,
    }
    documents = {
        "settings": settings, "streams": streams, "readiness": readiness, "listings": listings, **common
    }  # fmt: skip
    routes: list[Any] = [
        (r"/()", PageHandler, {**files, "default_filename": "index.html"}),
        (r"/static/(.+)", PageHandler, files),
        (r"/stream(?:/([^/]+))?", StreamHandler, stream),
        (r"/documents(?:/([^/]+))?", DocumentsHandler, documents),
        (r"/streams", StreamsHandler, {"streams": streams, "source": source, **common}),
        (r"/healthz", HealthHandler, common),
        (r"/readyz", ReadyHandler, {"readiness": readiness, "room": (descriptors, limits), **common}),
        (r".*", NotFoundHandler, common),
    ]
    if metrics is not None and not settings.metrics_port:
        routes.insert(-1, (r"/metrics", MetricsHandler, {"metrics": metrics, **common}))
    refusals = metrics.refusals if metrics is not None else Refusals()
    return HostApplication(routes, settings, log_function=refusals.log)
