"""A small plot of a soak: a line for each measure over the time of the run."""

from __future__ import annotations

from collections.abc import Sequence

from tests.soak.samples import MEASURES, WARM_UP, Sample

WIDTH, PANEL, LEFT, TOP = 720, 92, 60, 30
MOST_POINTS = 240

STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #333 }
  .small { font-size: 11px; fill: #777 }  .paper { fill: #fff }  .grid { stroke: #ddd }
  .line { fill: none; stroke: #0b7a75; stroke-width: 1.5 }  .warm { fill: #f2f4f5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #ccc }  .small { fill: #999 }  .paper { fill: #16191c }  .grid { stroke: #333 }
    .line { stroke: #4fd1c5 }  .warm { fill: #202428 }
  }
"""


def draw(samples: Sequence[Sample]) -> str:
    """SVG, for light and dark pages. Each measure begins at zero."""
    height = TOP + len(MEASURES) * PANEL + 20
    last = samples[-1].seconds
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>Memory, descriptors, tasks and latency in {last / 60:.0f} minutes</title>",
        f'<style>{STYLE}</style><rect class="paper" width="100%" height="100%"/>',
    ]
    span = WIDTH - LEFT - 20
    for row, measure in enumerate(MEASURES):
        top = TOP + row * PANEL
        bottom = top + PANEL - 34
        values = measure.values(samples)
        most = max(*values, 1.0) * 1.1
        parts += [
            f'<rect class="warm" x="{LEFT}" y="{top}" width="{span * WARM_UP:.0f}" height="{PANEL - 34}"/>',
            f'<text x="{LEFT}" y="{top - 6}">{measure.title}</text>',
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 20}" y1="{bottom}" y2="{bottom}"/>',
            f'<text class="small" x="{LEFT - 6}" y="{bottom}" text-anchor="end">0</text>',
            f'<text class="small" x="{LEFT - 6}" y="{top + 10}" text-anchor="end">{most:.0f}</text>',
            f'<path class="line" d="{_path(samples, values, most, top, bottom, span)}"/>',
        ]
    parts.append(f'<text class="small" x="{LEFT}" y="{height - 10}">0 min; grey: warm-up, not judged</text>')
    parts.append(
        f'<text class="small" x="{WIDTH - 20}" y="{height - 10}" text-anchor="end">{last / 60:.0f} min</text>'
    )
    return "\n".join([*parts, "</svg>\n"])


def _path(
    samples: Sequence[Sample], values: Sequence[float], most: float, top: float, bottom: float, span: float
) -> str:
    step = max(1, len(samples) // MOST_POINTS)
    across = span / samples[-1].seconds
    up = (bottom - top) / most
    points = [
        f"{LEFT + across * sample.seconds:.1f},{bottom - up * value:.1f}"
        for sample, value in list(zip(samples, values, strict=True))[::step]
    ]
    return "M" + "L".join(points)
