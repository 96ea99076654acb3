"""The HTTP side of the server: Tornado request handlers. Imports nothing of MongoDB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tornado.web

from brook.admission import Admission
from brook.delivery.subscribers import SubscriberList
from brook.readiness import Readiness
from brook.settings import Settings
from brook.source import Source
from handlers.base import NotFoundHandler
from handlers.cors import Cors
from handlers.credentials import CredentialReader
from handlers.descriptors import Descriptors
from handlers.documents import DocumentsHandler, Listings
from handlers.framing import Framings
from handlers.head import Heads
from handlers.health import HealthHandler, ReadyHandler
from handlers.hosts import HostApplication, Hosts
from handlers.limits import Limits
from handlers.metrics import Metrics, MetricsHandler
from handlers.page import PageHandler
from handlers.proxies import Proxies
from handlers.refusals import Refusals
from handlers.sandbox import Inserter, SandboxHandler
from handlers.stream import StreamHandler
from handlers.streams import StreamsHandler
from handlers.subjects import Subjects
from handlers.watcher import Watcher


def application(
    settings: Settings,
    admission: Admission,
    source: Source,
    subscribers: SubscriberList,
    readiness: Readiness,
    static_path: Path,
    descriptors: Descriptors | None = None,
    metrics: Metrics | None = None,
    listings: Listings | None = None,
    limits: Limits | None = None,
    inserter: Inserter | None = None,
) -> tornado.web.Application:
    """Return the Tornado application with all routes. Tornado's compression is off: it would delay events."""
    descriptors = descriptors or Descriptors.of_this_process()
    limits = limits or Limits(settings)
    cors = Cors(settings.cors_origin)
    common = {"cors": cors}
    access = {
        "admission": admission,
        "credentials": CredentialReader(admission.transport, cors, Proxies(settings.trusted_proxy)),
    }
    files = {"path": str(static_path), **common}
    stream = {
        "settings": settings,
        "source": source,
        "subscribers": subscribers,
        "readiness": readiness,
        "framings": Framings(compress=settings.compression == "gzip"),
        "heads": Heads(cors),
        "descriptors": descriptors,
        "limits": limits,
        "subjects": Subjects(settings),
        "watcher": Watcher(),
        **access,
        **common,
    }
    documents = {
        "settings": settings, "readiness": readiness, "listings": listings, **access, **common
    }  # fmt: skip
    # With access rules, who may read need not be one who may write.
    inserts = inserter is not None and admission.transport is None
    routes: list[Any] = [
        (r"/()", PageHandler, {**files, "default_filename": "index.html"}),
        (r"/static/(.+)", PageHandler, files),
        (r"/stream(?:/([^/]+))?", StreamHandler, stream),
        (r"/documents(?:/([^/]+))?", DocumentsHandler, documents),
        (r"/streams", StreamsHandler, {"source": source, "inserts": inserts, **access, **common}),
        (r"/healthz", HealthHandler, common),
        (r"/readyz", ReadyHandler, {"readiness": readiness, "room": (descriptors, limits), **common}),
        (r".*", NotFoundHandler, common),
    ]
    # With access rules, a client must not see the numbers of all clients: only `metrics_port` has them.
    if metrics is not None and not settings.metrics_port and admission.transport is None:
        routes.insert(-1, (r"/metrics", MetricsHandler, {"metrics": metrics, **common}))
    if inserts:
        routes.insert(-1, (r"/sandbox/([^/]+)", SandboxHandler, {"inserter": inserter, **access}))
    refusals = metrics.refusals if metrics is not None else Refusals()
    hosts = Hosts.of(settings, guarded=admission.transport is not None)
    return HostApplication(routes, hosts, settings.url_max_bytes, cors, log_function=refusals.log)
