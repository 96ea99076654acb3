"""What processes use, from the system's own books."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import psutil


def tree(pid: int) -> list[int]:
    """A process and all that it has started: nginx works in children."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def cpu_seconds(pids: Iterable[int]) -> float:
    """What `utime + stime` in /proc/PID/stat say, but in nanoseconds instead of ticks of 10 ms.

    Linux has a clock for the CPU time of each process: clock_getcpuclockid(3).
    """
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def user_seconds(pids: Iterable[int]) -> float:
    """The part of it outside the kernel, to 10 ms."""
    return sum(psutil.Process(pid).cpu_times().user for pid in pids)


def memory_bytes(pids: Iterable[int]) -> int:
    """The proportional set size: pages that several processes share are counted once."""
    total = 0
    for pid in pids:
        for row in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if row.startswith("Pss:"):
                total += int(row.split()[1]) * 1024
    return total


def settle(pids: Iterable[int], seconds: float = 30) -> None:
    """Return when the processes have come to rest: what they still do belongs to nobody's figures."""
    pids = list(pids)
    until = time.monotonic() + seconds
    quiet = 0
    while quiet < 3 and time.monotonic() < until:
        before = cpu_seconds(pids)
        time.sleep(0.1)
        quiet = quiet + 1 if cpu_seconds(pids) - before < 0.003 else 0
