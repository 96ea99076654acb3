"""Prints the packages of this environment that have another version than in the lock."""

from __future__ import annotations

from importlib import metadata

from packaging.utils import canonicalize_name

from locks.lockfile import LOCKS, differences, parse


def main() -> None:
    locked = {
        one.name: one.version
        for one in parse((LOCKS / "dev.txt").read_text(encoding="utf-8"))
        if one.requirement.marker is None or one.requirement.marker.evaluate()
    }
    here = {canonicalize_name(one.metadata["Name"]): one.version for one in metadata.distributions()}
    del here["babbling-brook"]
    print(*(differences(locked, here) or ["every package has the version of the lock"]), sep="\n")


if __name__ == "__main__":
    main()
