"""The judgement of a soak: it finds what grows, and is not misled by spikes."""

from __future__ import annotations

import random
import re

import pytest

from tests.soak.plot import draw
from tests.soak.samples import Sample, read_csv, trends, write_csv


def run(**growth: float) -> list[Sample]:
    """An hour with noise, and with a growth of some measures in that time."""
    dice = random.Random(1)
    samples = []
    for number in range(720):
        done = number / 720
        base = {
            "rss_mb": 80.0,
            "descriptors": 120.0,
            "tasks": 7.0,
            "threads": 4.0,
            "p50_ms": 6.0,
            "p99_ms": 15.0,
        }
        noise = {"rss_mb": dice.gauss(0, 1), "descriptors": dice.randrange(20), "p50_ms": dice.expovariate(1)}
        values = {name: base[name] + noise.get(name, 0) + done * growth.get(name, 0) for name in base}
        whole = {"descriptors", "tasks", "threads"}
        samples.append(
            Sample(
                seconds=5.0 * number,
                visits=40 * number,
                **{name: round(value) if name in whole else value for name, value in values.items()},
            )
        )
    return samples


def test_noise_is_flat():
    assert all(trend.is_flat for trend in trends(run()))


@pytest.mark.parametrize(
    ("name", "growth"), [("rss_mb", 8), ("descriptors", 12), ("tasks", 4), ("p50_ms", 4)]
)
def test_growth_of_a_few_percent_an_hour_is_found(name, growth):
    assert [trend.measure.name for trend in trends(run(**{name: growth})) if not trend.is_flat] == [name]


def test_samples_survive_their_file_and_are_drawn(tmp_path):
    samples = run()
    write_csv(tmp_path / "soak.csv", samples)
    assert read_csv(tmp_path / "soak.csv") == samples
    svg = draw(samples)
    assert svg.startswith("<svg")
    assert len(re.findall('class="line"', svg)) == 4
    assert len(svg) < 40_000
