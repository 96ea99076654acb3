"""Scrapes `/metrics`, and reads it with the parser of prometheus_client."""

from __future__ import annotations

import urllib.request

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families


class Scrape:
    """The answer to one scrape."""

    def __init__(self, url: str, seconds: float = 20) -> None:
        with urllib.request.urlopen(url + "/metrics", timeout=seconds) as answer:
            self.content_type = answer.headers["Content-Type"]
            self.families: list[Metric] = list(text_string_to_metric_families(answer.read().decode()))

    def names(self) -> set[str]:
        """The names of all samples, as a query uses them."""
        return {sample.name for family in self.families for sample in family.samples}

    def values(self, name: str, **labels: str) -> list[float]:
        """The values of the samples with a name and these labels."""
        return [
            sample.value
            for family in self.families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]

    def sum(self, name: str, **labels: str) -> float:
        """The sum of these values. There must be one."""
        values = self.values(name, **labels)
        assert values, f"there is no {name} {labels}"
        return sum(values)
