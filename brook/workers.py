"""Several processes on one port, each with a source of its own, so that more cores serve more clients."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

log = logging.getLogger(__name__)

# A worker that fails at once, for ever, must not keep a core busy.
RESTART_SECONDS = 1.0

_PR_SET_PDEATHSIG = 1  # prctl(2)

_STOPPING = (signal.SIGTERM, signal.SIGINT)

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


def end_with_parent(signal_number: signal.Signals) -> None:
    """Have this process sent a signal when its parent ends, even by SIGKILL. Does nothing but on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_number)


class _Supervisor:
    def __init__(self, count: int, work: Work) -> None:
        self._work = work
        self._count = count
        self._workers: dict[int, int] = {}
        self._stopping = False

    def run(self) -> int:
        for signal_number in _STOPPING:
            signal.signal(signal_number, self._stop)
        for number in range(self._count):
            self._start(number)
        code = 0
        while self._workers:
            pid, status = os.wait()
            worker = self._workers.pop(pid, None)
            if worker is None:
                # The sandbox's MongoDB is a child, too, and no worker.
                continue
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
        # One that came now would miss the new worker: it is not in the list yet, or still has our handler.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
        if not self._stopping:
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                self._child(number, parent)
            self._workers[pid] = number
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)

    def _child(self, number: int, parent: int) -> NoReturn:
        """Never returns: what the parent has opened is the parent's to close."""
        for signal_number in _STOPPING:
            signal.signal(signal_number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
        # Left behind, it would keep the port, and nobody would start it again.
        end_with_parent(signal.SIGTERM)
        if os.getppid() != parent:  # it has ended already
            os._exit(70)
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
            # It may have ended just now; an error in here would leave the others behind.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
