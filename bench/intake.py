"""The intake alone, in its own process: reads the log into the history, without subscribers."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time

from bench import usage
from brook.delivery.history import History
from brook.delivery.replay import Replayer
from brook.delivery.subscribers import SubscriberList
from brook.settings import Settings
from sources import open_source


async def read(uri: str, database: str, changes: int, past_seconds: float) -> dict[str, object]:
    """Read this number of changes with the source and the subscriber list that `server.py` builds."""
    settings = Settings(database=database, warm_up_seconds=past_seconds)
    history = History(settings.history_max_bytes, settings.history_seconds)
    source = open_source(settings, uri)
    subscribers = SubscriberList(settings, history, Replayer(source, history, settings.replay_cursors))
    began, used = time.monotonic(), time.process_time()
    await source.open()
    count = 0
    async for batch in source.past():
        subscribers.publish(batch)
        count += len(batch.events)
        if count >= changes:
            break
    seconds, used = time.monotonic() - began, time.process_time() - used
    await source.close()
    return {
        "changes_per_second": count / seconds,
        "change_cpu_us": used / count * 1e6,
        "memory_mb": usage.memory_bytes([os.getpid()]) / 1e6,
        "faults": {} if count == len(history) == changes else {"read": count, "kept": len(history)},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.intake", description=__doc__)
    parser.add_argument("uri")
    parser.add_argument("database")
    parser.add_argument("changes", type=int)
    parser.add_argument("past_seconds", type=float)
    print(json.dumps(asyncio.run(read(**vars(parser.parse_args())))))
