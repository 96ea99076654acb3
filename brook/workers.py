"""Several processes that share a port, each with its own source, to serve clients on several cores."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

log = logging.getLogger(__name__)

# The pause keeps a worker that always fails at once from occupying a core.
RESTART_SECONDS = 1.0

_PR_SET_PDEATHSIG = 1  # prctl(2)

_STOPPING = (signal.SIGTERM, signal.SIGINT)

Work = Callable[[int], int]
"""The work of one process: takes the number of the worker and returns its exit code."""


def run(
    count: int,
    work: Work,
    passed_on: Sequence[signal.Signals] = (),
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Run the work in `count` processes and return their common exit code.

    A worker that is killed or fails is restarted; a worker that cannot start (exit code 1) ends all of them.
    SIGTERM and SIGINT are passed on as SIGTERM, and the signals of `passed_on` as they are. `stopped` is true
    if one of the first two has come already. Call this before the process has threads or an event loop.
    """
    if count == 1:
        return work(0)
    return _Supervisor(count, work, passed_on).run(stopped)


def end_with_parent(signal_number: signal.Signals) -> None:
    """Send this process a signal when its parent ends, even by SIGKILL. Only Linux supports it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_number)


class _Supervisor:
    def __init__(self, count: int, work: Work, passed_on: Sequence[signal.Signals]) -> None:
        self._work = work
        self._count = count
        self._passed_on = passed_on
        self._held = (*_STOPPING, *passed_on)
        self._workers: dict[int, int] = {}
        self._stopping = False
        self._code = 0
        self._signalled, self._wakeup = os.pipe()

    def run(self, stopped: Callable[[], bool]) -> int:
        for descriptor in (self._signalled, self._wakeup):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _ignore)
        for signal_number in _STOPPING:
            signal.signal(signal_number, self._stop)
        for signal_number in self._passed_on:
            signal.signal(signal_number, self._pass_on)
        # A signal from before these handlers would stop each worker at once, and each would be restarted.
        self._stopping |= stopped()
        for number in range(self._count):
            self._start(number)
        while self._workers:
            # os.wait() would sleep through a signal that arrives just before it: Python runs a handler only
            # after the call returns.
            select.select([self._signalled], [], [])
            os.read(self._signalled, 4096)
            self._collect()
        return self._code

    def _collect(self) -> None:
        """Act on all children that have ended by now; several of them can share one SIGCHLD."""
        while self._workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            worker = self._workers.pop(pid, None)
            # The sandbox's MongoDB is also a child of this process.
            if worker is not None:
                self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: int, code: int) -> None:
        if code == 1:
            self._code = 1
            self._stop()
        elif not self._stopping:
            log.error(
                "worker %(worker)d ended with exit code %(code)d; restarting it",
                {"worker": worker, "code": code},
            )
            time.sleep(RESTART_SECONDS)
            self._start(worker)

    def _start(self, number: int) -> None:
        # A signal that arrives now would miss the new worker: the list does not contain it yet, or it still
        # has the handler of its parent.
        signal.pthread_sigmask(signal.SIG_BLOCK, self._held)
        if not self._stopping:
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                self._child(number, parent)
            self._workers[pid] = number
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._held)

    def _child(self, number: int, parent: int) -> NoReturn:
        """Run the work and exit. Returning would close the resources of the parent."""
        signal.set_wakeup_fd(-1)
        for descriptor in (self._signalled, self._wakeup):
            os.close(descriptor)
        for signal_number in (*_STOPPING, signal.SIGCHLD):
            signal.signal(signal_number, signal.SIG_DFL)
        for signal_number in self._passed_on:
            # The work installs its own handler later. Until then, the default one would end the worker.
            signal.signal(signal_number, _ignore)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._held)
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
        self._send(signal.SIGTERM)

    def _pass_on(self, signal_number: int, frame: FrameType | None) -> None:
        self._send(signal_number)

    def _send(self, signal_number: int) -> None:
        for pid in self._workers:
            # The worker may have just ended. An exception here would leave the other workers running.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal_number)


def _ignore(signal_number: int, frame: FrameType | None) -> None:
    pass
