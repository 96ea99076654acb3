"""A distribution as counts, for the metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

# From the time of a write on one machine to an outage that somebody has to look at.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Histogram:
    """Counts of observed values by upper bound. A value equal to a bound belongs to it."""

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self.sum = 0.0
        """Sum of the observed values."""

    def observe(self, value: float) -> None:
        """Count a value. A negative one counts as 0: two clocks differ."""
        value = max(value, 0.0)
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Each bound with the number of values up to it; the last bound is infinite."""
        count = 0
        for bound, here in zip((*self._bounds, float("inf")), self._counts, strict=True):
            count += here
            yield bound, count
