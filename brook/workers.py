"""Several processes on one port, each with a source of its own, so that more cores serve more clients."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

log = logging.getLogger(__name__)

# A worker that fails at once, for ever, must not keep a core busy.
RESTART_SECONDS = 1.0

Work = Callable[[int], int]
"""What a worker does: takes its number, returns its exit code."""


def run(count: int, work: Work) -> int:
    """Do the work in `count` processes, and return the exit code for all of them.

    One that is killed or fails is started again; one that cannot start (exit code 1) ends them all.
    SIGTERM and SIGINT are passed on. To be called before there are threads or an event loop.
    """
    if count == 1:
        return work(0)
    return _Supervisor(count, work).run()


class _Supervisor:
    def __init__(self, count: int, work: Work) -> None:
        self._work = work
        self._count = count
        self._workers: dict[int, int] = {}
        self._stopping = False

    def run(self) -> int:
        for caught in (signal.SIGTERM, signal.SIGINT):
            signal.signal(caught, self._stop)
        for number in range(self._count):
            self._start(number)
        code = 0
        while self._workers:
            pid, status = os.wait()
            worker = self._workers.pop(pid)
            ended = os.waitstatus_to_exitcode(status)
            if ended == 1:
                code = 1
                self._stop()
            elif not self._stopping:
                log.error("worker %d ended with %d, and is started again", worker, ended)
                time.sleep(RESTART_SECONDS)
                self._start(worker)
        return code

    def _start(self, number: int) -> None:
        if self._stopping:
            return
        pid = os.fork()
        if pid == 0:
            self._child(number)
        self._workers[pid] = number
        if self._stopping:
            # The signal came between the fork and the line above.
            os.kill(pid, signal.SIGTERM)

    def _child(self, number: int) -> NoReturn:
        """Never returns: what the parent has opened is the parent's to close."""
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signal_number, signal.SIG_DFL)
        code = 70
        try:
            code = self._work(number)
        except Exception:
            log.exception("worker %d failed", number)
        finally:
            logging.shutdown()
            os._exit(code)

    def _stop(self, signal_number: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
        self._stopping = True
        for pid in self._workers:
            os.kill(pid, signal.SIGTERM)
