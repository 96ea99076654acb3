"""Measures the bytes that shared compression saves, on the frames of real changes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.database import Database, creature
from bench.servers import Server
from brook.settings import Settings
from brook.subscription import Subscription
from handlers.framing import deflated
from sources import open_source
from sources.sandbox import CREATURES

BATCHES = (1, 10, 100, 1000)

# The documents of the article, of `--sandbox`, and of the benchmark, with the time of insertion.
KINDS: dict[str, Callable[[int], dict[str, Any]]] = {
    "article": lambda _: {"type": "crawdad"},
    "sandbox": lambda number: {
        "type": random.choice(CREATURES),
        "number": number,
        "size": random.randint(1, 40),
    },
    "benchmark": creature,
}


@dataclass(frozen=True, slots=True)
class Sizes:
    """Measure documents of several kinds in batches of several sizes."""

    def measure(self, server: Server, uri: str) -> dict[str, Any]:
        figures: dict[str, Any] = {"faults": {}}
        for kind, make in KINDS.items():
            with Database(uri) as database:
                database.write(range(max(BATCHES)), max(BATCHES), make=make)
                frames = asyncio.run(read(uri, database.name))
            for together in BATCHES:
                body = b"".join(frames[:together])
                figures[f"{kind}_{together}_plain"] = len(body)
                figures[f"{kind}_{together}_gzip"] = len(deflated(body))
        return figures


async def read(uri: str, database: str) -> list[bytes]:
    """Return the frames of the documents just written to a database."""
    source = open_source(Settings(database=database), uri)
    frames: list[bytes] = []
    try:
        await source.open()
        async for batch in source.past():
            frames += [event.decode().frame(Subscription()) for event in batch.events]
    finally:
        await source.close()
    if len(frames) != max(BATCHES):
        raise SystemExit(f"{max(BATCHES)} documents were written, and {len(frames)} frames read")
    return frames
