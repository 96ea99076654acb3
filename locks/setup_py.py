"""What setup.py asks for, with its ranges."""

from __future__ import annotations

import runpy
from unittest import mock

from packaging.requirements import Requirement

from locks.lockfile import ROOT


def requirements(extra: str = "") -> list[Requirement]:
    """The packages that the server needs; or those of an extra."""
    with mock.patch("setuptools.setup") as setup:
        runpy.run_path(str(ROOT / "setup.py"))
    asked = setup.call_args.kwargs
    return [
        Requirement(line) for line in (asked["extras_require"][extra] if extra else asked["install_requires"])
    ]
