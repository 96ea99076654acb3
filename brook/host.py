"""Findings about this machine: open files, and clients that wait to be accepted."""

from __future__ import annotations

import resource
from pathlib import Path

from brook.finding import Finding, Level

# Fewer files than this are the default of a shell, and no choice of an operator.
FEW_FILES = 4096

# The number of waiting clients for which the server asks.
BACKLOG = 8192

SOMAXCONN = Path("/proc/sys/net/core/somaxconn")


def examine(somaxconn: Path = SOMAXCONN) -> list[Finding]:
    """Return the findings. Reads two numbers."""
    return [_files(), *_waiting(somaxconn)]


def _files() -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard > FEW_FILES:
        return Finding(Level.OK, "open files", f"a process may open {hard}, and each client takes one")
    return Finding(
        Level.WARNING,
        "open files",
        f"a process may open only {hard}, and each client takes one",
        "raise LimitNOFILE in systemd, or ulimit -Hn",
    )


def _waiting(somaxconn: Path) -> list[Finding]:
    try:
        most = int(somaxconn.read_text())
    except (OSError, ValueError):
        return []  # only Linux has it
    says = f"{most} clients may wait to be accepted when all come back at once"
    if most >= BACKLOG:
        return [Finding(Level.OK, "net.core.somaxconn", says)]
    return [Finding(Level.NOTE, "net.core.somaxconn", says, f"sysctl -w net.core.somaxconn={BACKLOG}")]
