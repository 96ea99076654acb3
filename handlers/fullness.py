"""Logs that clients are refused: one line at the first refusal, and one when there is room again."""

from __future__ import annotations

import asyncio
import logging
import time

log = logging.getLogger(__name__)

# Time without a refusal before the log says that there is room. A refused browser retries sooner: with a
# shorter time, each of its tries would be logged.
QUIET_SECONDS = 15.0


class Fullness:
    """True while a client was refused within the last `quiet_seconds`."""

    def __init__(self, quiet_seconds: float = QUIET_SECONDS) -> None:
        self._quiet_seconds = quiet_seconds
        self._refused_at = 0.0
        self._lasts = False

    def __bool__(self) -> bool:
        return self._lasts

    def refuse(self, message: str, *arguments: object) -> None:
        """Note a refusal. Only the first of many is logged."""
        self._refused_at = time.monotonic()
        if not self._lasts:
            self._lasts = True
            log.warning(message, *arguments)
            self._look_again(self._quiet_seconds)

    def _look_again(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        quiet_in = self._refused_at + self._quiet_seconds - time.monotonic()
        if quiet_in > 0:
            self._look_again(quiet_in)
        else:
            self._lasts = False
            log.info("new clients are accepted again")
