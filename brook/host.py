"""Findings about this machine: open files, and clients that wait to be accepted."""

from __future__ import annotations

import resource
from pathlib import Path

from brook.finding import Finding, Level

# A limit up to this is a system's default, not an operator's choice.
FEW_FILES = 4096

# The number of clients that may wait to be accepted: after a restart they all come at once. The kernel's own
# bound (net.core.somaxconn) applies too.
BACKLOG = 8192

SOMAXCONN = Path("/proc/sys/net/core/somaxconn")


def examine(somaxconn: Path = SOMAXCONN) -> list[Finding]:
    """Return one finding for each limit that this machine has."""
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
        limit = int(somaxconn.read_text())
    except (OSError, ValueError):
        return []  # only Linux has it
    says = f"{limit} clients may wait to be accepted when all come back at once"
    if limit >= BACKLOG:
        return [Finding(Level.OK, "net.core.somaxconn", says)]
    return [Finding(Level.NOTE, "net.core.somaxconn", says, f"sysctl -w net.core.somaxconn={BACKLOG}")]
