"""Measurements as tables: medians, and ratios between servers that were measured in the same round."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.servers import every_server
from bench.sizes import BATCHES, KINDS

Results = dict[str, Any]

TITLES = {server.name: server.title for server in every_server()}

SCENARIOS = {
    "small": "100 clients, a document every 5 ms for 5 seconds",
    "paced": "1,000 clients, a document every 10 ms for 5 seconds",
    "burst": "1,000 clients, 1,000 documents in one `insert_many`",
    "wide": "10,000 clients, two documents a second for 10 seconds",
    "idle": "10,000 clients, connected for 45 seconds while nothing happens",
    "intake": "no client, 50,000 documents in the log",
    "herd": "5,000 clients return after a restart, 2,000 changes behind, served from memory",
    "herd-log": "the same when the memory holds nothing: served from the log",
    "own-filters": "10,000 clients, each with an equality filter of its own; each change is for one",
    "100-filters": "as wide, with 100 distinct filters that all match",
}

COLUMNS = {
    "cpu_us": "CPU per delivery, µs",
    "user_us": "of it outside the kernel, µs",
    "bridge_us": "bridge's, µs",
    "p50_ms": "p50, ms",
    "p99_ms": "p99, ms",
    "last_ms": "last delivery, ms",
    "database_p50_ms": "database p50, ms",
    "database_p99_ms": "database p99, ms",
    "fan_out_p50_ms": "fan-out p50, ms",
    "deliveries_per_second": "deliveries/s",
    "bytes_per_delivery": "bytes per delivery",
    "memory_mb": "memory, MB",
    "connection_kb": "memory per connection, kB",
    "keep_alive_percent": "CPU of the keep-alives, % of a core",
    "keep_alives": "keep-alives",
    "open_seconds": "seconds to connect all",
    "changes_per_second": "changes/s",
    "change_cpu_us": "CPU per change, µs",
    "seconds": "seconds until all have all",
    "cursors": "replay cursors at once",
    "cpu_ms": "CPU per client, ms",
    "times_alone": "CPU per change, times that for one client",
    "times_unfiltered": "CPU per delivery, times that without filters",
    "client_us": "load client's CPU, µs",
}


COMPRESSION = ("bytes_per_delivery", "cpu_us", "client_us")


@dataclass(frozen=True, slots=True)
class Aim:
    """A target for a figure: a maximum, a minimum, or a maximum ratio to a peer's figure."""

    scenario: str
    figure: str
    max: float | None = None
    min: float | None = None
    of: Mapping[str, float] = field(default_factory=dict)


AIMS = (
    Aim("small", "change_cpu_us", of={"go": 1}),
    Aim("paced", "cpu_us", of={"express": 0.6, "nchan": 0.95, "floor": 1.8}),
    Aim("paced", "p99_ms", max=50, of={"express": 0.1}),
    Aim("burst", "cpu_us", of={"express": 1 / 30, "nchan": 1 / 30}),
    Aim("burst", "last_ms", of={"nchan": 0.1}),
    Aim("wide", "cpu_us", of={"express": 0.5, "nchan": 0.95}),
    Aim("idle", "connection_kb", max=6),
    Aim("idle", "keep_alive_percent", max=3),
    Aim("intake", "changes_per_second", min=30_000),
    Aim("herd", "seconds", max=10),
    Aim("herd", "cursors", max=4),
    Aim("herd-log", "seconds", max=10),
    Aim("herd-log", "cursors", max=4),
    Aim("own-filters", "times_alone", max=3),
    Aim("100-filters", "times_unfiltered", max=1.3),
)


def brief(figures: Results) -> str:
    """Format one measurement on one line."""
    shown = (
        "cpu_us",
        "user_us",
        "p50_ms",
        "p99_ms",
        "last_ms",
        "connection_kb",
        "keep_alive_percent",
        "changes_per_second",
        "seconds",
        "cursors",
        "times_alone",
        "times_unfiltered",
    )
    parts = [f"{name} {number(figures[name])}" for name in shown if name in figures]
    return "  ".join(parts) + (f"  FAULTS {figures['faults']}" if figures["faults"] else "")


def number(value: float | None) -> str:
    """Format a value with three significant digits, the precision of a measurement."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.01 or not value else f"{value:.1g}"


def values(results: Results, scenario: str, server: str, figure: str) -> dict[int, float]:
    """Return a figure by run."""
    return {
        one["run"]: one[figure]
        for one in results["measurements"]
        if (one["scenario"], one["server"]) == (scenario, server) and figure in one
    }


def median(results: Results, scenario: str, server: str, figure: str) -> float | None:
    found = values(results, scenario, server, figure)
    return statistics.median(found.values()) if found else None


def ratio(results: Results, scenario: str, figure: str, peer: str) -> float | None:
    """Return the ratio of this server's figure to a peer's: the median of the ratios of all rounds."""
    ours = values(results, scenario, "brook", figure)
    theirs = values(results, scenario, peer, figure)
    found = [ours[run] / theirs[run] for run in ours if theirs.get(run)]
    return statistics.median(found) if found else None


def table(rows: list[list[str]]) -> str:
    """Format a Markdown table. The first row is the head; all columns but the first are numbers."""
    head, *others = rows
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *others]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines) + "\n"


def measured(results: Results) -> tuple[list[str], list[str]]:
    """Return the measured scenarios and servers, in the order of their tables."""
    there = results["measurements"]
    scenarios = [name for name in SCENARIOS if any(one["scenario"] == name for one in there)]
    return scenarios, [name for name in TITLES if any(one["server"] == name for one in there)]


def ratios(results: Results) -> str:
    """Format this server's figures and their ratios to the peers' figures. Below 1 is better."""
    scenarios, servers = measured(results)
    peers = [name for name in servers if name != "brook"]
    rows = [["", "Babbling Brook", *(f"x {TITLES[peer]}" for peer in peers), "aim"]]
    for aim in AIMS:
        ours = median(results, aim.scenario, "brook", aim.figure)
        if aim.scenario not in scenarios or ours is None:
            continue
        found = {peer: ratio(results, aim.scenario, aim.figure, peer) for peer in peers}
        cells = [number(found[peer]) for peer in peers]
        label = f"{aim.scenario}: {COLUMNS[aim.figure]}"
        rows.append([label, number(ours), *cells, aimed(aim, ours, found)])
    return table(rows)


def aimed(aim: Aim, ours: float, found: Mapping[str, float | None]) -> str:
    """Format the targets of a figure; missed targets are in bold."""
    parts = []
    if aim.max is not None:
        parts.append((f"at most {number(aim.max)}", ours <= aim.max))
    if aim.min is not None:
        parts.append((f"at least {number(aim.min)}", ours >= aim.min))
    for peer, times in aim.of.items():
        there = found.get(peer)
        if there is not None:
            parts.append((f"{number(times)} x {TITLES[peer]}", there <= times))
    return ", ".join(text if reached else f"**{text}**" for text, reached in parts)


def figures(results: Results, scenario: str) -> str:
    """Format the medians of every server in one scenario."""
    servers = [
        name
        for name in measured(results)[1]
        if any((one["scenario"], one["server"]) == (scenario, name) for one in results["measurements"])
    ]
    columns = [name for name in COLUMNS if median(results, scenario, servers[0], name) is not None]
    rows = [["", *(COLUMNS[name] for name in columns)]]
    for server in servers:
        rows.append([TITLES[server], *(number(median(results, scenario, server, name)) for name in columns)])
    faults = [
        f"{TITLES[one['server']]}, run {one['run'] + 1}: {one['faults']}"
        for one in results["measurements"]
        if one["scenario"] == scenario and one["faults"]
    ]
    return table(rows) + ("\nFaults: " + "; ".join(faults) + "\n" if faults else "")


def compression(results: Results) -> str:
    """Format bytes and CPU with and without compression by size of batch; empty if not measured."""
    rows = [["changes in a batch"]]
    for figure in COMPRESSION:
        rows[0] += [f"{COLUMNS[figure]}: plain", "gzip", "ratio"]
    for together in BATCHES:
        row = [str(together)]
        for figure in COMPRESSION:
            plain, packed = (
                median(results, f"{together}-{coding}", "brook", figure) for coding in ("plain", "gzip")
            )
            if plain and packed:
                row += [number(plain), number(packed), number(packed / plain)]
        if len(row) == len(rows[0]):
            rows.append(row)
    return table(rows) if len(rows) > 1 else ""


def sizes(results: Results) -> str:
    """Format bytes with and without compression by document and size of batch; empty if not measured."""
    rows = [["document", *(f"batch of {together:,}" for together in BATCHES)]]
    for kind in KINDS:
        row = [kind]
        for together in BATCHES:
            plain, packed = (
                median(results, "sizes", "brook", f"{kind}_{together}_{coding}")
                for coding in ("plain", "gzip")
            )
            if plain and packed:
                row.append(f"{plain:,.0f} / {packed:,.0f} = {number(plain / packed)}")
        if len(row) == len(rows[0]):
            rows.append(row)
    return table(rows) if len(rows) > 1 else ""


def tables(results: Results) -> str:
    """Format all tables, the ratios first."""
    scenarios, _ = measured(results)
    parts = [ratios(results)]
    for name in scenarios:
        what = "small sizes, which say little" if results["quick"] else SCENARIOS[name]
        parts.append(f"### {name}: {what}\n\n{figures(results, name)}")
    if packed := compression(results):
        parts.append(f"### compression: 1,000 clients, batches of several sizes\n\n{packed}")
    if bytes_saved := sizes(results):
        parts.append(f"### sizes: bytes without and with compression, by document\n\n{bytes_saved}")
    return "\n".join(parts)


def page(results: Results, plot: Path | None) -> str:
    """Format `docs/performance.md`."""
    template = Path(__file__).with_name("performance.md").read_text()
    runs = 1 + max(one["run"] for one in results["measurements"])
    machine = table([["", ""], *([name, value] for name, value in results["machine"].items())])
    words = {
        "@RATIOS@": ratios(results),
        "@FIGURES@": tables(results).removeprefix(ratios(results)).strip(),
        "@MACHINE@": machine,
        "@RUNS@": str(runs),
        "@PLOT@": f"![CPU and latency of each server]({plot.name})" if plot else "",
    }
    for word, text in words.items():
        template = template.replace(word, text)
    return template
