"""Several processes on one port: whatever dies, and whenever, none is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Self

import psutil
import pytest

from tests.support.processes import ROOT

# A worker that is left behind holds the pipes open, and would be waited for.
pytestmark = pytest.mark.timeout(30)

# Each process says its number and its pid; the child that is no worker has the number -1.
SAY = 'os.write(1, b"%d %d\\n" % (number, pid))'

IDLE = f"""
import os, signal, subprocess
from brook import workers

def work(number):
    pid = os.getpid()
    {SAY}
    signal.pause()
"""


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


class Supervised:
    """A script that runs workers; `started` has the number and the pid of each, as they come."""

    def __init__(self, script: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", script],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        self.started: list[tuple[int, int]] = []

    def hear(self, count: int) -> Self:
        """Wait for so many more processes."""
        assert self.process.stdout is not None
        for _ in range(count):
            number, pid = self.process.stdout.readline().split()
            self.started.append((int(number), int(pid)))
        return self

    def pids(self, number: int) -> list[int]:
        """The processes that had a number, oldest first."""
        return [pid for own, pid in self.started if own == number]

    def end(self) -> tuple[int, str]:
        """Its exit code and its log, when nobody has its output open any more."""
        _, log = self.process.communicate(timeout=20)
        return self.process.returncode, log

    def kill(self) -> None:
        """End them all, also those that a supervisor has left behind."""
        children = psutil.Process(self.process.pid).children() if self.process.poll() is None else []
        self.process.kill()
        for pid in {child.pid for child in children} | {pid for _, pid in self.started}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def supervise() -> Iterator[Callable[[str], Supervised]]:
    """Starts a script that runs workers; kills them all when the test ends."""
    all_of_them: list[Supervised] = []

    def start(script: str) -> Supervised:
        all_of_them.append(Supervised(script))
        return all_of_them[-1]

    yield start
    for supervised in all_of_them:
        supervised.kill()


def test_worker_that_is_killed_is_started_again_under_its_number(supervise):
    supervised = supervise(f"{IDLE}\nos._exit(workers.run(2, work))").hear(2)
    os.kill(supervised.pids(1)[0], signal.SIGKILL)
    supervised.hear(1)
    assert len(supervised.pids(1)) == 2
    supervised.process.send_signal(signal.SIGTERM)
    code, log = supervised.end()
    assert code == 0
    assert log == "worker 1 ended with exit code -9; restarting it\n"


def test_worker_that_cannot_start_ends_them_all(supervise):
    supervised = supervise(f"{IDLE}\nos._exit(workers.run(2, lambda number: number or work(number)))")
    assert supervised.end() == (1, "")


def test_child_that_is_no_worker_may_die(supervise):
    """The sandbox's MongoDB is one."""
    supervised = supervise(
        f"{IDLE}\nstranger = subprocess.Popen(['sleep', '1000'])\nnumber, pid = -1, stranger.pid\n{SAY}\n"
        "os._exit(workers.run(2, work))"
    ).hear(3)
    [stranger] = supervised.pids(-1)
    os.kill(stranger, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(stranger))
    # The supervisor goes on with its work.
    os.kill(supervised.pids(0)[0], signal.SIGKILL)
    supervised.hear(1)
    supervised.process.send_signal(signal.SIGTERM)
    code, log = supervised.end()
    assert code == 0
    assert log == "worker 0 ended with exit code -9; restarting it\n"


def test_signal_that_comes_as_a_worker_ends_changes_nothing(supervise):
    """Between the end and its note, a pid is known and nobody has it."""
    script = f"""{IDLE}
waitpid = os.waitpid

def interrupted(*arguments):
    ended = waitpid(*arguments)
    signal.raise_signal(signal.SIGTERM)
    return ended

os.waitpid = interrupted
os._exit(workers.run(3, work))
"""
    supervised = supervise(script).hear(3)
    supervised.process.send_signal(signal.SIGTERM)
    assert supervised.end() == (0, "")
    assert not [pid for _, pid in supervised.started if psutil.pid_exists(pid)]


def test_signal_that_came_before_the_first_worker_starts_none(supervise):
    supervised = supervise(f"{IDLE}\nos._exit(workers.run(2, work, (), lambda: True))")
    assert supervised.end() == (0, "")
    assert not supervised.started


def test_signal_that_meets_a_worker_as_it_is_forked_ends_it(supervise):
    """It would take it as its parent does, and go on."""
    script = f"""{IDLE}
fork = os.fork

def interrupted():
    os.fork = fork
    pid = fork()
    if not pid:
        signal.raise_signal(signal.SIGTERM)
    return pid

os.fork = interrupted
os._exit(workers.run(2, work))
"""
    supervised = supervise(script).hear(2)
    supervised.process.send_signal(signal.SIGTERM)
    assert supervised.end() == (0, "worker 0 ended with exit code -15; restarting it\n")


def test_workers_end_with_a_supervisor_that_is_killed(supervise):
    supervised = supervise(f"{IDLE}\nos._exit(workers.run(2, work))").hear(2)
    supervised.process.kill()
    # Its output ends when the last of them has.
    assert supervised.end() == (-signal.SIGKILL, "")
