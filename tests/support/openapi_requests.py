"""Requests made at random from docs/openapi.yaml, and the check of each answer against it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tests.support.openapi import data_of_events, read

EXAMPLES = {GenerationMode.POSITIVE: 40, GenerationMode.NEGATIVE: 12}

Seen = Counter[tuple[str, int]]
"""The number of answers by operation and status."""


def described(url: str, *streams: str) -> Any:
    """The description of a server, with names that it has."""
    spec = read()
    spec["components"]["parameters"]["name"]["schema"] = {"enum": list(streams)}
    spec["components"]["parameters"]["ns"]["schema"]["items"] = {"enum": list(streams)}
    bundled = spec["components"]["schemas"]["BundledSubscription"]["properties"]
    bundled["stream"] = {"enum": [*streams, None]}
    schema = schemathesis.openapi.from_dict(spec)
    schema.config.update(base_url=url)
    # The streams end by themselves; after 20 events it would leave, before the goodbye.
    schema.config.max_stream_events = 100_000
    return schema


def described_as_guarded(url: str, *streams: str) -> Any:
    """The description of a server with access rules, none of whose streams is public."""
    schema = described(url, *streams)
    schema.raw_schema["security"] = [{"bearer": []}]
    schema.raw_schema["paths"]["/streams"]["get"]["security"] = [{}, {"bearer": []}]
    return schema


def exercise(
    schema: Any,
    examples: Mapping[GenerationMode, int] = EXAMPLES,
    headers: Mapping[str, str] | None = None,
) -> Seen:
    """Ask every operation. Raises if an answer is not described."""
    seen: Seen = Counter()
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode, count in examples.items():
            if mode is GenerationMode.POSITIVE or list(operation.iter_parameters()) or operation.body:
                _ask(operation, mode, count, dict(headers or {}), seen)
    return seen


def _ask(operation: Any, mode: GenerationMode, count: int, headers: dict[str, str], seen: Seen) -> None:
    @given(case=operation.as_strategy(mode))
    @settings(
        max_examples=count, deadline=None, database=None, derandomize=True,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def run(case: schemathesis.Case) -> None:
        answer = case.call(timeout=60, headers=headers)
        seen[operation.label, answer.status_code] += 1
        if answer.status_code == 400 and not answer.content:
            return  # More parameters than Tornado reads: protocol.md says so.
        case.validate_response(
            answer,
            headers=headers,
            additional_checks=[data_of_events],
            excluded_checks=_excluded(mode, answer.status_code),
        )

    run()


def _excluded(mode: GenerationMode, status: int) -> list[Any]:
    if mode is GenerationMode.POSITIVE:
        # Parameters that exclude each other are refused: no schema of single parameters can say so.
        checks: list[Any] = [positive_data_acceptance]
    else:
        # Some violations are lost before they are sent, or do not count: an empty list is no parameter, the
        # token is sent in each case, a header wins over `since`. The answers must be described all the same.
        checks = [negative_data_rejection]
    # On a machine that is busy, MongoDB can be late. Where a 503 is not described, it is still a failure.
    return [*checks, not_a_server_error] if status == 503 else checks
