"""The files that a clone of the project has, and the modules of the server among them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.support.processes import ROOT

ROOMS = ("brook", "handlers", "sources")
MODULES = sorted([ROOT / "server.py", *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))])

# Not part of the project: set up, built or fetched, and so not in a clone.
NOT_OURS = {"node_modules", "build", "dist", "site", "__pycache__"}


def files() -> Iterator[Path]:
    """Every file that a clone of the project has."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [
            name for name in folders
            if name not in NOT_OURS and not name.endswith(".egg-info") and (name == ".ci" or name[0] != ".")
        ]  # fmt: skip
        # In a work tree of its own, `.git` is a file that names the repository.
        yield from (Path(folder, name) for name in names if name != ".git")


def name_of(path: Path) -> str:
    """The name by which a module is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def copy_to(clone: Path) -> None:
    """Make a folder that has the project's own files and no others."""
    for path in files():
        target = clone / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
