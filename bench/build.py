"""Compiles the C programs of the benchmark if they are missing or older than their source."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

BENCH = Path(__file__).resolve().parent
BUILD = BENCH / "build"


def program(name: str, *, gzip: bool = False) -> Path:
    """Return the program compiled from `bench/<name>.c`. `gzip` needs zlib's headers."""
    source, target = BENCH / f"{name}.c", BUILD / (f"{name}-gzip" if gzip else name)
    if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
        return target
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if not shutil.which(compiler[0]):
        raise SystemExit("the benchmark needs a C compiler; on Debian: apt-get install gcc libc6-dev")
    BUILD.mkdir(exist_ok=True)
    options = ["-DWITH_GZIP", "-lz"] if gzip else []
    command = [*compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(target), str(source), *options]
    subprocess.run(command, check=True)
    return target
