"""The result of a run as tables for docs/reliability.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.queries import CHANGES, LIVE
from tests.chaos.run import Outcome
from tests.chaos.schedule import KINDS


def lines(outcome: Outcome) -> Iterator[str]:
    """Markdown: the counts, then the faults by kind."""
    changes, live = outcome.changes, outcome.live
    rows: list[tuple[str, object]] = [
        ("seed", str(outcome.plan.seed)),
        ("length", f"{outcome.seconds / 60:.0f} min"),
        ("faults", outcome.faults.total()),
        ("clients of changes", sum(outcome.clients[query.name] for query in CHANGES)),
        ("clients of live queries", sum(outcome.clients[query.name] for query in LIVE)),
        ("connections", outcome.connects),
        ("operations that a majority had", outcome.operations),
        ("acknowledged to the writers", outcome.acknowledged),
        ("writes that MongoDB rolled back", outcome.rolled_back),
        ("**deliveries**", outcome.deliveries),
        ("lost", changes.lost),
        ("repeated", changes.repeated),
        ("out of order", changes.out_of_order),
        ("rolled back, or never written", changes.alien),
        ("states of a live query that `find` never showed", live.untrue),
        ("gaps that were told", changes.resets + live.resets),
        ("of these, without a lost log", changes.unexplained_resets + live.unexplained_resets),
    ]  # fmt: skip
    yield "| | |"
    yield "|---|---:|"
    for name, value in rows:
        yield f"| {name} | {value if isinstance(value, str) else f'{value:,}'} |"
    yield ""
    yield "| fault | times |"
    yield "|---|---:|"
    for kind in KINDS:
        note = f" ({outcome.left_out[kind]:,} had no effect)" if outcome.left_out[kind] else ""
        yield f"| {kind} | {outcome.faults[kind]:,}{note} |"
    for effect, count in outcome.effects.items():
        if count:
            yield f"| ({effect}) | {count:,} |"


def renew(page: str, outcome: Outcome) -> None:
    """Put the tables between the marks of the page."""
    path = Path(page)
    text = "\n".join(lines(outcome))
    new, count = re.subn(
        r"(<!-- chaos -->\n).*?(<!-- end -->)",
        rf"\g<1>\n{text}\n\n\g<2>",
        path.read_text(),
        count=1,
        flags=re.S,
    )
    assert count, f"{page} has no marks"
    path.write_text(new)
