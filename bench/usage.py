"""CPU time and memory of processes, from the operating system."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import psutil


def tree(pid: int) -> list[int]:
    """Return a process and all its descendants: nginx serves from child processes."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time, user and system, with a resolution of nanoseconds.

    `utime` and `stime` in /proc/PID/stat count ticks of 10 ms. Linux also has a clock for the CPU time of
    each process: clock_getcpuclockid(3).
    """
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def user_seconds(pids: Iterable[int]) -> float:
    """Return the user CPU time, with a resolution of 10 ms."""
    return sum(psutil.Process(pid).cpu_times().user for pid in pids)


def memory_bytes(pids: Iterable[int]) -> int:
    """Return the proportional set size, which counts a page shared by several processes once."""
    total = 0
    for pid in pids:
        for row in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if row.startswith("Pss:"):
                total += int(row.split()[1]) * 1024
    return total


def settle(pids: Iterable[int], seconds: float = 30) -> None:
    """Wait until the processes are idle, so that earlier work does not count in the next figures."""
    pids = list(pids)
    until = time.monotonic() + seconds
    quiet = 0
    while quiet < 3 and time.monotonic() < until:
        before = cpu_seconds(pids)
        time.sleep(0.1)
        quiet = quiet + 1 if cpu_seconds(pids) - before < 0.003 else 0
