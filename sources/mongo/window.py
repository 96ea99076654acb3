"""Watches how far back MongoDB's log reaches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import time as wall_clock
from typing import Any

from pymongo.errors import OperationFailure, PyMongoError

from brook.changes.resume_token import ClusterTime

log = logging.getLogger(__name__)

# Time between two looks at the beginning of the log.
LOOK_SECONDS = 60.0

# A log that reaches back less is short: a closed laptop is away for longer, and would have to read its data
# anew.
SHORT_SECONDS = 3600.0

SHORT = (
    "MongoDB's log reaches back for only %(seconds)d s: a client that is away for longer has to read its "
    "data anew"
)


async def beginning(client: Any) -> ClusterTime:
    """The time of the log's first entry; (0, 0) if that is not known, and only MongoDB's error shows that a
    position is lost. Raises PyMongoError.
    """
    try:
        first = await client.local["oplog.rs"].find_one({}, {"ts": 1}, sort=[("$natural", 1)])
    except OperationFailure:
        return (0, 0)  # this user may not read the log
    # A mongos has no log.
    return (first["ts"].time, first["ts"].inc) if first else (0, 0)


async def watch(
    beginning: Callable[[], Awaitable[ClusterTime]],
    tell: Callable[[float, bool], None],
    history_seconds: float,
    look_seconds: float = LOOK_SECONDS,
) -> None:
    """Call `tell` with the seconds that the log reaches back, for ever.

    The second argument is True when the log has become short, of which a warning is logged. Does neither
    until MongoDB has cut off the log's beginning: the log of a new replica set is young, not short. Runs as a
    task that is never awaited, so it logs its own failure.
    """
    try:
        await _watch(beginning, tell, history_seconds, look_seconds)
    except Exception:
        log.exception("the length of MongoDB's log is not watched any more")


async def _watch(
    beginning: Callable[[], Awaitable[ClusterTime]],
    tell: Callable[[float, bool], None],
    history_seconds: float,
    look_seconds: float,
) -> None:
    first: ClusterTime | None = None
    is_short = False
    while True:
        try:
            start = await beginning()
        except PyMongoError:
            start = (0, 0)  # the change stream meets the same error, and reports it
        if start != (0, 0):
            if first is not None and start != first:
                seconds = wall_clock() - start[0]
                was_short, is_short = is_short, seconds < max(history_seconds, SHORT_SECONDS)
                became_short = is_short and not was_short
                tell(seconds, became_short)
                if became_short:
                    log.warning(SHORT, {"seconds": round(seconds)})
            first = first or start
        await asyncio.sleep(look_seconds)
