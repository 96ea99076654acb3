"""The request to stop, by SIGTERM or SIGINT. It may come at any moment, also during the start."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Handles SIGTERM and SIGINT until `stop_event` or `workers` installs a handler of its own.

    The handler only notes the signal. An exception raised in it could come anywhere, and the driver
    would swallow it. The steps of the start check the note by calling this object.
    """

    def __init__(self) -> None:
        self._made = False
        for number in SIGNALS:
            signal.signal(number, self._make)

    def __call__(self) -> bool:
        """True once a signal has come."""
        return self._made

    def _make(self, number: int, frame: FrameType | None) -> None:
        self._made = True


def stop_event(stopped: Callable[[], bool]) -> asyncio.Event:
    """Return an event that SIGTERM or SIGINT sets, or has set already."""
    stop = asyncio.Event()
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if stopped():
        stop.set()
    return stop
