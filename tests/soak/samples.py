"""What a server takes while it runs, sample by sample, and whether that grows."""

from __future__ import annotations

import csv
import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import psutil

from tests.support.metrics import Scrape

WARM_UP = 0.2
"""The share of a run in which the memory of recent events fills, and the allocator's pools with it."""
MOST_PAIRS = 400


@dataclass(frozen=True)
class Sample:
    """One look at the server."""

    seconds: float
    rss_mb: float
    descriptors: int
    tasks: int
    threads: int
    p50_ms: float
    p99_ms: float
    visits: int


@dataclass(frozen=True)
class Measure:
    """A column of the samples, and how much it may rise from the end of the warm-up to the last sample."""

    name: str
    title: str
    share: float
    """Of its median."""
    least: float

    def values(self, samples: Sequence[Sample]) -> list[float]:
        return [getattr(sample, self.name) for sample in samples]


MEASURES = (
    Measure("rss_mb", "memory, MB", 0.03, 1.0),
    # A visitor who is there at the moment has a descriptor, too.
    Measure("descriptors", "open descriptors", 0.03, 1.0),
    Measure("tasks", "tasks of the event loop", 0.0, 1.0),
    Measure("p50_ms", "insert to client, median, ms", 0.25, 1.0),
)


@dataclass(frozen=True)
class Trend:
    """The rise of a measure over the measured time, by its slope, and the bound."""

    measure: Measure
    median: float
    rise: float
    bound: float

    @property
    def is_flat(self) -> bool:
        return self.rise <= self.bound

    def __str__(self) -> str:
        word = "flat" if self.is_flat else "NOT FLAT"
        rise = f"rise {self.rise:+.2f} of {self.bound:.2f} allowed"
        return f"{self.measure.title}: median {self.median:.1f}, {rise}: {word}"


def settled(samples: Sequence[Sample]) -> list[Sample]:
    """The samples after the warm-up."""
    return [sample for sample in samples if sample.seconds >= WARM_UP * samples[-1].seconds]


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """The median of the slopes between any two points, by Theil and Sen: a few spikes do not move it."""
    step = max(1, len(times) // MOST_PAIRS)
    points = list(zip(times, values, strict=True))[::step]
    slopes = [
        (second[1] - first[1]) / (second[0] - first[0])
        for first, second in itertools.combinations(points, 2)
        if second[0] > first[0]
    ]
    return statistics.median(slopes)


def trends(samples: Sequence[Sample]) -> list[Trend]:
    measured = settled(samples)
    times = [sample.seconds for sample in measured]
    found = []
    for measure in MEASURES:
        values = measure.values(measured)
        median = statistics.median(values)
        rise = slope(times, values) * (times[-1] - times[0])
        found.append(Trend(measure, median, rise, max(measure.least, measure.share * median)))
    return found


class Recorder:
    """Looks at one server."""

    def __init__(self, pid: int, url: str) -> None:
        self._process = psutil.Process(pid)
        self._url = url
        self._began = time.monotonic()
        self.samples: list[Sample] = []

    def look(self, latencies: Sequence[float], visits: int) -> Sample:
        """Takes the time of a scrape."""
        ordered = sorted(latencies) or [0.0]
        sample = Sample(
            round(time.monotonic() - self._began, 1),
            round(self._process.memory_info().rss / 2**20, 2),
            self._process.num_fds(),
            int(Scrape(self._url).sum("brook_tasks")),
            self._process.num_threads(),
            round(1000 * ordered[len(ordered) // 2], 2),
            round(1000 * ordered[len(ordered) * 99 // 100], 2),
            visits,
        )
        self.samples.append(sample)
        return sample


def write_csv(path: Path, samples: Sequence[Sample]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Sample)])
        writer.writerows(astuple(sample) for sample in samples)


def read_csv(path: Path) -> list[Sample]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    whole = {"descriptors", "tasks", "threads", "visits"}
    return [
        Sample(**{name: int(text) if name in whole else float(text) for name, text in row.items()})
        for row in rows
    ]
