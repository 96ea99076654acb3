"""Several processes that share a port, each with its own source, to serve clients on several cores."""

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

# The pause keeps a worker that always fails at once from occupying a core.
RESTART_SECONDS = 1.0

_PR_SET_PDEATHSIG = 1  # prctl(2)

_STOPPING = (signal.SIGTERM, signal.SIGINT)

Work = Callable[[int], int]
"""The work of one process: takes the number of the worker and returns its exit code."""


def run(count: int, work: Work) -> int:
    """Run the work in `count` processes and return their common exit code.

    A worker that is killed or fails is restarted; a worker that cannot start (exit code 1) ends all of them.
    SIGTERM and SIGINT are passed on as SIGTERM. Call this before the process has threads or an event loop.
    """
    if count == 1:
        return work(0)
    return _Supervisor(count, work).run()


def end_with_parent(signal_number: signal.Signals) -> None:
    """Send this process a signal when its parent ends, even by SIGKILL. Only Linux supports it."""
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
                # The sandbox's MongoDB is also a child of this process.
                continue
            ended = os.waitstatus_to_exitcode(status)
            if ended == 1:
                code = 1
                self._stop()
            elif not self._stopping:
                log.error(
                    "worker %(worker)d ended with exit code %(code)d; restarting it",
                    {"worker": worker, "code": ended},
                )
                time.sleep(RESTART_SECONDS)
                self._start(worker)
        return code

    def _start(self, number: int) -> None:
        # A signal that arrives now would miss the new worker: the list does not contain it yet, or it still
        # has the handler of its parent.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
        if not self._stopping:
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                self._child(number, parent)
            self._workers[pid] = number
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)

    def _child(self, number: int, parent: int) -> NoReturn:
        """Run the work and exit. Returning would close the resources of the parent."""
        for signal_number in _STOPPING:
            signal.signal(signal_number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
        # A worker without a parent would keep the port, and nothing would restart it.
        end_with_parent(signal.SIGTERM)
        if os.getppid() != parent:  # the parent has already ended
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
            # The worker may have just ended. An exception here would leave the other workers running.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
