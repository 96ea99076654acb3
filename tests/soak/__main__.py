"""`python -m tests.soak --minutes 60`: a fixed load for a long time; says whether anything grows."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import click

from sources.sandbox import Sandbox
from tests.soak.load import Load
from tests.soak.plot import draw
from tests.soak.samples import Recorder, trends, write_csv
from tests.support.processes import ROOT, ServerProcess

SAMPLE_SECONDS = 5.0
# The memory of recent events is full within the warm-up.
OPTIONS = ("--database", "soak", "--history-seconds", "60", "--live-linger-seconds", "5")


def deployed() -> dict[str, str]:
    """The environment, with what the systemd unit adds to it."""
    unit = (ROOT / "deploy" / "babbling-brook.service").read_text()
    return {**os.environ, **dict(re.findall(r"^Environment=(\w+)=(.*)$", unit, re.MULTILINE))}


async def soak(minutes: float, uri: str, server: ServerProcess) -> tuple[Recorder, Load, int]:
    load = Load(uri, server.port, seed=1)
    recorder = Recorder(server.pid, server.url)
    running = asyncio.create_task(load.run())
    until = time.monotonic() + 60 * minutes
    try:
        while time.monotonic() < until:
            await asyncio.wait([running], timeout=SAMPLE_SECONDS)
            if running.done():
                running.result()
            latencies = load.latencies[:]
            load.latencies.clear()
            sample = await asyncio.to_thread(recorder.look, latencies, load.visits)
            if len(recorder.samples) % 12 == 1:
                print(sample, flush=True)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        ended = sum(listener.ends for listener in load.listeners)
        load.close()
    return recorder, load, ended


@click.command()
@click.option("--minutes", type=float, default=60, show_default=True)
@click.option(
    "--csv", "path", type=click.Path(dir_okay=False), help="The samples; a temporary file without it."
)
@click.option("--plot", type=click.Path(dir_okay=False), help="An SVG of them.")
def main(minutes: float, path: str | None, plot: str | None) -> None:
    """Run one server under a fixed load, and say whether anything grows."""
    with Sandbox() as sandbox:
        server = ServerProcess("--mongo", sandbox.uri, *OPTIONS, env=deployed())
        try:
            recorder, load, ended = asyncio.run(soak(minutes, sandbox.uri, server.start()))
        finally:
            server.kill()
    file = Path(path or Path(tempfile.gettempdir()) / "brook-soak.csv")
    write_csv(file, recorder.samples)
    if plot:
        Path(plot).write_text(draw(recorder.samples))
    lost = sum(listener.lost for listener in load.listeners)
    events = sum(listener.events for listener in load.listeners)
    found = trends(recorder.samples)
    print(
        f"{recorder.samples[-1].seconds / 60:.0f} min, {load.written:,} inserts, {load.visits:,} visits, "
        f"{events:,} events to the clients that stayed, {lost} lost, {ended} of them were cut off; {file}"
    )
    print("\n".join(map(str, found)))
    sys.exit(bool(lost or ended) or not all(trend.is_flat for trend in found))


if __name__ == "__main__":
    main()
