"""The metrics of a server that follows MongoDB, and the dashboard, the alerts and the docs that name them."""

from __future__ import annotations

import asyncio
import json
import re
import time

import pytest
import yaml

from sources.mongo import window
from sources.mongo.source import pause_after_loss
from tests.support.metrics import Scrape
from tests.support.processes import ROOT
from tests.support.raw_client import RawClient

DASHBOARD = ROOT / "deploy" / "grafana" / "babbling-brook.json"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"

# Known only when MongoDB has cut off the beginning of its log, which this one does not.
LATER = {"brook_log_window_seconds"}

NAMES = r"\b(?:brook|process)_[a-z_]+\b"


async def scrape(server) -> Scrape:
    return await asyncio.to_thread(Scrape, server.url)


@pytest.fixture
def server(sandbox, database, start_server):
    return start_server("--mongo", sandbox.uri, "--database", database.name, "--history-max-bytes", "150000")


@pytest.fixture
def scraped(server) -> Scrape:
    return Scrape(server.url)


def test_events_their_lag_and_every_kind_of_resume_are_counted(server, database):
    async def scenario() -> None:
        first = await RawClient(server.port).connect()
        documents = [{"_id": number, "pad": "x" * 5000} for number in range(60)]
        await asyncio.to_thread(database.creatures.insert_many, documents)
        for _ in documents:
            await first.next()
        now = await scrape(server)
        assert now.sum("brook_events_total") == now.sum("brook_deliveries_total") == 60
        assert now.sum("brook_lag_seconds_count") == now.sum("brook_publish_seconds_count") > 0
        assert now.sum("brook_lag_seconds_sum") / now.sum("brook_lag_seconds_count") < 5
        assert 0 < now.sum("brook_history_events") < 40
        assert now.sum("brook_history_span_seconds") > 0
        assert now.sum("brook_source_up") == 1
        oldest, newest = first.events[0].id, first.events[-2].id
        clients = [
            await RawClient(server.port, last_id=id).connect() for id in (oldest, newest, "t1.1", "garbage")
        ]
        for client in clients:
            await client.next()
        live = await RawClient(server.port, "/stream?mode=live").connect()
        while (await live.next()).event != "live":
            pass
        async with asyncio.timeout(20):
            while (now := await scrape(server)).sum("brook_resumes_total") < 4:
                await asyncio.sleep(0.02)
        for origin, count in {"log": 1, "memory": 1, "reset": 2, "snapshot": 0}.items():
            assert now.sum("brook_resumes_total", origin=origin) == count, origin
        assert now.sum("brook_result_sets") == 1
        assert now.sum("brook_result_set_documents") == 60
        assert now.sum("brook_subscriptions") == 2
        assert now.sum("brook_subscribers") == 6
        again = await RawClient(server.port, live.path, last_id=live.parser.last_id).connect()
        while (await again.next()).event != "live":
            pass
        assert (await scrape(server)).sum("brook_resumes_total", origin="memory") == 2
        for client in (first, live, again, *clients):
            client.close()

    asyncio.run(scenario())


def test_position_follows_the_log_while_nothing_happens(server, database):
    async def scenario() -> None:
        seen = set()
        async with asyncio.timeout(30):
            while len(seen) < 3:
                seen |= set((await scrape(server)).values("brook_position_timestamp_seconds"))
                await asyncio.to_thread(database.other.insert_one, {})
                await asyncio.sleep(0.3)

    asyncio.run(scenario())


# -- the pages that name them ----------------------------------------------------------------------


def test_every_metric_of_the_dashboard_is_there(scraped):
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [variable["query"] for variable in dashboard["templating"]["list"] if "(" in variable["query"]]
    named = set(re.findall(NAMES, " ".join(queries)))
    assert len(named) > 25
    assert named <= scraped.names() | LATER


def test_every_metric_and_label_of_the_alerts_is_there(scraped):
    [group] = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    assert len(group["rules"]) == len({rule["alert"] for rule in group["rules"]}) >= 8
    for rule in group["rules"]:
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["labels"]["severity"] in ("critical", "warning")
        named = re.findall(rf"({NAMES})(?:\{{(\w+)=\"([^\"]*)\"\}})?", rule["expr"])
        assert named
        for name, label, value in named:
            assert name in LATER or scraped.values(name, **({label: value} if label else {})), rule["expr"]


def test_every_metric_is_in_the_table_of_the_docs(scraped):
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(brook_\w+)` \| (\w+) \|([^|]*)\| (.*) \|$", page, re.M)
    table = {name: (kind, re.findall(r"`(\w+)`", labels), text) for name, kind, labels, text in rows}
    assert set(table) - LATER == {
        family.name + ("_total" if family.type == "counter" else "")
        for family in scraped.families if family.name.startswith("brook_")
    }  # fmt: skip
    for family in scraped.families:
        if family.name.startswith("brook_"):
            kind, labels, text = table[family.name + ("_total" if family.type == "counter" else "")]
            assert (kind, text) == (family.type, family.documentation)
            used = {name for sample in family.samples for name in sample.labels} - {"worker", "le"}
            assert set(labels) == used


def test_counters_end_in_total_and_units_are_base_units(scraped):
    for family in scraped.families:
        assert not re.search("_(ms|milliseconds|kb|mb|minutes|count)$", family.name)


# -- the edge of the log ---------------------------------------------------------------------------


def watched(*beginnings: tuple[int, int]) -> list[tuple[float, bool]]:
    """The arguments of `tell`, while the log begins at these cluster times, one after the other."""
    left = iter(beginnings)
    told: list[tuple[float, bool]] = []

    async def beginning() -> tuple[int, int]:
        try:
            return next(left)
        except StopIteration:
            raise asyncio.CancelledError from None

    async def scenario() -> None:
        with pytest.raises(asyncio.CancelledError):
            await window.watch(beginning, lambda *each: told.append(each), 300, look_seconds=0)

    asyncio.run(scenario())
    return told


def test_window_is_told_once_the_log_has_been_cut_and_warned_of_once(caplog):
    told = watched((100, 1), (100, 1), (0, 0), (200, 1), (300, 1))
    (first, _), (second, _) = told
    assert first - second == pytest.approx(100, abs=5)
    assert not caplog.records, "a log that reaches back for decades is not short"


def test_end_of_the_watch_is_logged(caplog):
    async def beginning() -> tuple[int, int]:
        raise LookupError("a bug of ours")

    asyncio.run(window.watch(beginning, print, 300, look_seconds=0))
    assert "not watched any more" in caplog.text


def test_short_window_is_told_and_warned_of_once_each_time(caplog):
    now = int(time.time())
    told = watched(*((now - age, 1) for age in (60_000, 50_000, 50, 40, 50_000, 50)))
    assert [became_short for _, became_short in told] == [False, True, False, False, True]
    assert len(caplog.records) == 2


def test_log_that_is_lost_again_and_again_is_waited_for():
    pauses = [pause_after_loss(0.0, float("inf"))]
    for _ in range(8):
        pauses.append(pause_after_loss(pauses[-1], 5))
    assert pauses == [0, 1, 2, 4, 8, 16, 30, 30, 30]
    assert pause_after_loss(30, 61) == 0
