"""Rounds of a comparison: repeats it on a throwaway MongoDB, and prints the median of each figure."""

from __future__ import annotations

import argparse
import resource
import statistics
from collections.abc import Callable, Mapping

from sources.sandbox import Sandbox

Compare = Callable[[str, int], Mapping[str, float]]
"""Compares at a URI, with a number of clients. Returns figures by name."""


def run(description: str | None, compare: Compare) -> None:
    """Take the numbers of clients and of rounds from the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    found: dict[str, list[float]] = {}
    with Sandbox() as sandbox:
        for _ in range(options.rounds):
            for name, value in compare(sandbox.uri, options.clients).items():
                found.setdefault(name, []).append(value)
    for name, values in found.items():
        print(f"{name}: {statistics.median(values):.2f}  of {', '.join(f'{value:.2f}' for value in values)}")
