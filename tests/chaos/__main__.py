"""`python -m tests.chaos --seed 7 --minutes 20`: a run whose faults follow from the seed."""

from __future__ import annotations

import asyncio
import secrets
import sys

import click

from tests.chaos.report import lines, renew
from tests.chaos.run import Plan, run


@click.command()
@click.option("--seed", type=int, default=None, help="The run to repeat; random without it.")
@click.option("--minutes", type=float, default=5, show_default=True, help="How long faults are done.")
@click.option("--clients", type=int, default=100, show_default=True)
@click.option("--writers", type=int, default=4, show_default=True)
@click.option("--pause-ms", type=float, default=100, show_default=True, help="A writer's rest after a write.")
@click.option("--report", type=click.Path(dir_okay=False), help="The page whose table is renewed.")
def main(
    seed: int | None, minutes: float, clients: int, writers: int, pause_ms: float, report: str | None
) -> None:
    """Hurt a replica set and two servers, and check what each client was sent."""
    seed = secrets.randbelow(10**6) if seed is None else seed
    print(f"seed {seed}", flush=True)
    outcome = asyncio.run(run(Plan(seed, 60 * minutes, clients, writers, pause_ms / 1000)))
    print("\n".join(lines(outcome)))
    for text in outcome.complaints[:50]:
        print(text)
    if report and outcome.passes:
        renew(report, outcome)
    print(f"seed {seed}: {'nothing lost, nothing twice' if outcome.passes else 'FAILED'}")
    sys.exit(not outcome.passes)


if __name__ == "__main__":
    main()
