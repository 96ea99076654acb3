"""Prints the lowest versions that setup.py allows of the packages that the server needs."""

from __future__ import annotations

from packaging.requirements import Requirement

from locks.setup_py import requirements


def lowest(requirement: Requirement) -> str:
    """Such as `click==8.1.0`, of `click>=8.1.0,<9`."""
    [bound] = [one.version for one in requirement.specifier if one.operator == ">="]
    return f"{requirement.name}=={bound}"


if __name__ == "__main__":
    print(*map(lowest, requirements()))
