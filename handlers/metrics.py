"""`/metrics` in the format of Prometheus. The numbers are collected when they are asked for.

The only module that imports prometheus_client.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import tornado.web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from tornado.httpserver import HTTPServer

from brook import __version__
from brook.delivery.history import History
from brook.delivery.live import LiveMode
from brook.delivery.replay import Replayer
from brook.delivery.statistics import LiveStatistics
from brook.delivery.subscriber import CloseReason, Origin
from brook.delivery.subscribers import SubscriberList
from brook.delivery.tally import Tally
from brook.feed import Feed
from brook.histogram import Histogram
from brook.readiness import Readiness
from brook.settings import Settings
from brook.source import Source
from handlers import listening
from handlers.base import NotFoundHandler, ProblemHandler
from handlers.cors import Cors
from handlers.hosts import HostApplication, Hosts
from handlers.refusals import Refusals
from handlers.siblings import Siblings

WORKER = "worker"
"""The label with the number of the process; "0" if there is only one."""


@dataclass(frozen=True, slots=True)
class Instruments:
    """The objects of one process from which the metrics are read."""

    subscribers: SubscriberList
    history: History
    replayer: Replayer
    live: LiveMode | None
    feed: Feed
    source: Source
    readiness: Readiness
    tally: Tally


class Metrics:
    """The metrics of this process, and of its siblings."""

    def __init__(self, instruments: Instruments, siblings: Siblings | None = None) -> None:
        self._instruments = instruments
        self._siblings = siblings or Siblings()
        self._process = ProcessCollector(registry=None)
        self._server: HTTPServer | None = None
        self.refusals = Refusals()

    async def open(self, settings: Settings) -> None:
        """Answer the siblings, and listen at `metrics_port` if there is one. Raises OperatorError."""
        await self._siblings.open(self._own)
        if settings.metrics_port:
            own_port = replace(settings, port=settings.metrics_port)
            reuse_port = settings.processes > 1
            sockets = listening.bind(own_port, reuse_port=reuse_port, option="--metrics-port")
            self._server = HTTPServer(self._application(settings), **listening.bounds(settings))
            self._server.add_sockets(sockets)

    def close(self) -> None:
        """Stop answering."""
        self._siblings.close()
        if self._server is not None:
            self._server.stop()

    async def text(self, accept: str) -> tuple[bytes, str]:
        """The metrics of all processes in a format that a scraper accepts, and its content type."""
        values = {self._siblings.number: self._own(), **await self._siblings.others()}
        encode, content_type = choose_encoder(accept)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collected(_merged(values)))
        return encode(registry), content_type

    def _own(self) -> list[Any]:
        metrics = [*families(self._instruments, self.refusals), *self._process.collect()]
        return [_plain(metric) for metric in metrics]

    def _application(self, settings: Settings) -> tornado.web.Application:
        cors = Cors(())
        common = {"cors": cors}
        routes: list[Any] = [
            (r"/metrics", MetricsHandler, {"metrics": self, **common}),
            (r".*", NotFoundHandler, common),
        ]
        hosts = Hosts.of(settings)
        return HostApplication(routes, hosts, settings.url_max_bytes, cors, log_function=self.refusals.log)


class MetricsHandler(ProblemHandler):
    """Answers a scrape."""

    def initialize(self, cors: Cors, metrics: Metrics) -> None:  # type: ignore[override]
        super().initialize(cors)
        self._metrics = metrics

    async def get(self) -> None:
        text, content_type = await self._metrics.text(self.request.headers.get("Accept", ""))
        self.set_header("Content-Type", content_type)
        self.set_header("Cache-Control", "no-store")
        await self.finish(text)


def families(instruments: Instruments, refusals: Refusals) -> Iterator[Metric]:
    """The metrics of one process. Takes time in proportion to its number of subscribers."""
    yield InfoMetricFamily("brook_build", "The version of the server.", value={"version": __version__})
    yield from _clients(instruments, refusals)
    yield from _memory(instruments)
    yield from _source(instruments)


def _clients(instruments: Instruments, refusals: Refusals) -> Iterator[Metric]:
    subscribers, tally = instruments.subscribers, instruments.tally
    now = subscribers.statistics()
    events, size = tally.delivered(subscribers, subscribers.groups)
    yield _gauge("brook_subscribers", "Connected clients.", now.subscribers)
    yield _gauge("brook_subscribers_live", "Clients that are sent each event as it is published.", now.live)
    yield _gauge("brook_subscribers_replaying", "Clients that wait for the log or a snapshot.", now.replaying)
    yield _gauge("brook_subscribers_busy", "Clients with a full socket.", now.busy)
    yield _gauge("brook_subscriptions", "Distinct subscriptions of live clients.", now.subscriptions)
    yield _gauge("brook_queue_bytes", "Bytes queued for clients with a full socket.", now.queued_bytes)
    yield _gauge("brook_tasks", "Tasks of the event loop; clients need none.", len(asyncio.all_tasks()))
    yield _counter("brook_connections", "Streams that were opened.", tally.connections)
    yield _counters(
        "brook_disconnects", "Streams that ended, by reason.", "reason",
        {reason.value: tally.disconnects[reason] for reason in CloseReason},
    )  # fmt: skip
    yield _counters(
        "brook_resumes", "Clients that came back with an id, by the place that served them.", "origin",
        {origin.value: tally.resumes[origin] for origin in Origin if origin is not Origin.NOW},
    )  # fmt: skip
    yield _counters(
        "brook_refusals", "Refused requests, by the code of the problem.", "code", refusals.by_code
    )
    yield _counter("brook_deliveries", "Events sent to clients.", events)
    yield _counter("brook_sent_bytes", "Bytes sent to clients, before compression and framing.", size)


def _memory(instruments: Instruments) -> Iterator[Metric]:
    history = instruments.history
    live = instruments.live.statistics() if instruments.live is not None else LiveStatistics()
    yield _gauge("brook_result_sets", "Result sets that are kept for live queries.", live.result_sets)
    yield _gauge("brook_result_set_documents", "Documents in all result sets.", live.documents)
    yield _gauge("brook_snapshot_reads", "Snapshots that are being read, or wait for a cursor.", live.reads)
    cursors = instruments.replayer.open_cursors
    yield _gauge("brook_replay_cursors", "Cursors that read the log for clients.", cursors)
    yield _gauge("brook_history_events", "Recent events in memory.", len(history))
    yield _gauge("brook_history_bytes", "Bytes of the recent events in memory.", history.size)
    yield _gauge("brook_history_span_seconds", "Age of the oldest event in memory.", history.span_seconds)


def _source(instruments: Instruments) -> Iterator[Metric]:
    feed, source = instruments.feed, instruments.source
    yield _gauge("brook_ready", "1 if /readyz answers 200.", not instruments.readiness.reasons())
    yield _gauge("brook_source_up", "1 while events flow.", not feed.not_ready_reasons())
    yield _counter("brook_source_interruptions", "Times that events stopped.", source.interruptions)
    yield _counter("brook_source_gaps", "Times that events were lost, and all clients reset.", source.gaps)
    yield _counter("brook_events", "Events that the source has yielded.", feed.events)
    yield _histogram("brook_lag_seconds", "Time from a change to its publication, once a batch.", feed.lag)
    yield _histogram(
        "brook_publish_seconds", "Time to render a batch and write it to the sockets.", feed.publishing
    )
    if feed.position is not None and (age := source.age_seconds(feed.position)):
        name = "brook_position_timestamp_seconds"
        yield _gauge(name, "Time in the log up to which everything was published.", time.time() - age)
    yield _counter(
        "brook_log_window_shortages",
        "Times that MongoDB's log became shorter than an hour or the history.",
        source.log_window_shortages,
    )
    if source.log_window_seconds is not None:
        window = source.log_window_seconds
        yield _gauge("brook_log_window_seconds", "Time that MongoDB's log reaches back.", window)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(name, meaning, value=value)


def _counter(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(name, meaning, value=value)


def _counters(name: str, meaning: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, meaning, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _histogram(name: str, meaning: str, histogram: Histogram) -> Metric:
    buckets: list[tuple[str, float]] = [
        ("+Inf" if bound == float("inf") else str(bound), count) for bound, count in histogram.cumulative()
    ]
    return HistogramMetricFamily(name, meaning, buckets=buckets, sum_value=histogram.sum)


class _Collected(Collector):
    """Metrics that are already collected, for the encoder."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _plain(metric: Metric) -> list[Any]:
    """A metric as values of JSON, for a sibling."""
    samples = [[sample.name, sample.labels, sample.value] for sample in metric.samples]
    return [metric.name, metric.documentation, metric.type, samples]


def _merged(values: Mapping[int, list[Any] | None]) -> list[Metric]:
    """The metrics of all processes, with the number of the process as a label.

    They are not added up: when one process restarts, a sum of counters gets smaller, and Prometheus would
    take that for a restart of all of them.
    """
    up = GaugeMetricFamily("brook_worker_up", "1 if the process has sent its metrics.", labels=[WORKER])
    merged: dict[str, Metric] = {}
    for number, metrics in sorted(values.items()):
        up.add_metric([str(number)], metrics is not None)
        for name, documentation, kind, samples in metrics or ():
            family = merged.setdefault(name, Metric(name, documentation, kind))
            for sample, labels, value in samples:
                family.add_sample(sample, {WORKER: str(number), **labels}, value)
    return [up, *merged.values()]
