"""A plot of the measurements: a dot for each scenario and server, on a logarithmic scale."""

from __future__ import annotations

import math
from html import escape

from bench.report import TITLES, Results, measured, median

PANELS = (("cpu_us", "server's CPU per delivery, µs"), ("p99_ms", "insert to client, 99th percentile, ms"))
SCENARIOS = {
    "paced": "paced: 1,000 clients, 100 documents/s",
    "burst": "burst: 1,000 clients, 1,000 documents at once",
    "wide": "wide: 10,000 clients, 2 documents/s",
}

LABELS = 120
PANEL = 330
GAP = 40
ROW = 20
TOP = 64

STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #333 }
  .title { font-weight: 600 }  .small { font-size: 11px; fill: #777 }
  .paper { fill: #fff }  .grid { stroke: #ddd }  .stem { stroke: #b8c4cc; stroke-width: 2 }
  .dot { fill: #8296a3 }  .ours .dot { fill: #0b7a75 }  .ours .stem { stroke: #0b7a75 }
  .ours text { font-weight: 600; fill: #0b7a75 }
  @media (prefers-color-scheme: dark) {
    text { fill: #ccc }  .small { fill: #999 }  .paper { fill: #16191c }  .grid { stroke: #333 }
    .stem { stroke: #55626b }  .ours .dot { fill: #4fd1c5 }  .ours .stem { stroke: #4fd1c5 }
    .ours text { fill: #4fd1c5 }
  }
"""


class Scale:
    """Return the powers of ten that enclose all values."""

    def __init__(self, values: list[float], left: float) -> None:
        self.first = math.floor(math.log10(min(values)))
        self.last = max(self.first + 1, math.ceil(math.log10(max(values))))
        self.left = left

    def x(self, value: float) -> float:
        # Leave room at the end for the label of the last dot.
        return self.left + (math.log10(value) - self.first) / (self.last - self.first) * (PANEL - 50)


def draw(results: Results) -> str:
    """Return the plot as SVG, for light and dark pages."""
    there, servers = measured(results)
    scenarios = [name for name in SCENARIOS if name in there]
    height = TOP + len(scenarios) * (len(servers) + 1.5) * ROW
    width = LABELS + len(PANELS) * (PANEL + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" role="img">',
        f"<title>CPU per delivery and latency of {len(servers)} servers</title>",
        f'<style>{STYLE}</style><rect class="paper" width="100%" height="100%"/>',
    ]
    for place, (figure, title) in enumerate(PANELS):
        left = LABELS + place * (PANEL + GAP)
        found = {
            (scenario, server): value
            for scenario in scenarios
            for server in servers
            if (value := median(results, scenario, server, figure))
        }
        if found:
            scale = Scale(list(found.values()), left)
            parts += axis(scale, title, height)
            parts += [dot(scale, servers, scenarios, *key, value) for key, value in found.items()]
    for scenario in scenarios:
        y = row(servers, scenarios, scenario, -1)
        parts.append(f'<text class="title" x="8" y="{y:.0f}">{escape(SCENARIOS[scenario])}</text>')
        for server in servers:
            y = row(servers, scenarios, scenario, servers.index(server))
            name = f'<text x="{LABELS - 12}" y="{y:.0f}" text-anchor="end">{escape(TITLES[server])}</text>'
            parts.append(f'<g class="{kind(server)}">{name}</g>')
    return "\n".join([*parts, "</svg>\n"])


def row(servers: list[str], scenarios: list[str], scenario: str, index: int) -> float:
    """Return the vertical position of a server's row; of the scenario's title with -1."""
    return TOP + scenarios.index(scenario) * (len(servers) + 1.5) * ROW + (index + 1.2) * ROW


def axis(scale: Scale, title: str, height: float) -> list[str]:
    parts = [f'<text class="title" x="{scale.left}" y="20">{escape(title)}</text>']
    for power in range(scale.first, scale.last + 1):
        x = scale.x(10.0**power)
        parts.append(f'<line class="grid" x1="{x:.0f}" x2="{x:.0f}" y1="48" y2="{height - 8:.0f}"/>')
        parts.append(f'<text class="small" x="{x:.0f}" y="42" text-anchor="middle">{10.0**power:,g}</text>')
    return parts


def dot(
    scale: Scale, servers: list[str], scenarios: list[str], scenario: str, server: str, value: float
) -> str:
    x, y = scale.x(value), row(servers, scenarios, scenario, servers.index(server)) - 4
    text = f"{float(f'{value:.2g}'):,g}"
    return (
        f'<g class="{kind(server)}">'
        f'<line class="stem" x1="{scale.left}" x2="{x:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
        f'<text x="{x + 9:.1f}" y="{y + 4:.1f}">{text}</text></g>'
    )


def kind(server: str) -> str:
    return "ours" if server == "brook" else "other"
