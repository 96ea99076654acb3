"""Installs the dependencies of the peers into folders that git ignores: `python -m bench.install`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench import servers
from bench.build import BENCH, BUILD


def main() -> None:
    peers = BENCH / "peers"
    subprocess.run(["npm", "ci", "--silent"], cwd=peers, check=True)
    subprocess.run([sys.executable, "-m", "venv", str(BUILD / "venv")], check=True)
    # The same options as in the Makefile.
    pip = [str(BUILD / "venv" / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    lock = [
        "--require-hashes",
        "--only-binary",
        ":all:",
        "--requirement",
        str(servers.ROOT / "locks" / "peers.txt"),
    ]
    subprocess.run([*pip, *lock], check=True)
    build_go(peers / "go", servers.Go.program)
    build_go(peers / "mercure", servers.Mercure.program)
    install_nchan()


def build_go(folder: Path, program: Path) -> None:
    """Compile a peer in Go, from the exact modules in its go.sum; leave it out if Go is missing."""
    if not shutil.which("go"):
        print(f"Go is not installed; the benchmark runs without bench/peers/{folder.name}.")
        return
    subprocess.run(["go", "build", "-mod=readonly", "-o", str(program), "."], cwd=folder, check=True)


def install_nchan() -> None:
    """Install nchan from Debian's packages; print the command if the user is not root."""
    if not servers.Nchan().missing():
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", "nginx-light", "libnginx-mod-nchan"]
    if os.geteuid() == 0:
        subprocess.run(command, check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    else:
        print(
            f"nchan is not installed; the benchmark runs without it. Install:\n    sudo {' '.join(command)}"
        )


if __name__ == "__main__":
    main()
