"""The machine and the versions of all programs: the figures depend on them."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import psutil

from bench import servers
from bench.build import BENCH, BUILD
from sources.sandbox import find_mongod

PYTHON_PACKAGES = ("tornado", "motor", "pymongo", "orjson")
NODE_PACKAGES = ("express", "better-sse", "mongodb")


def describe() -> dict[str, str]:
    """Return names and values, in the order of the report."""
    memory = psutil.virtual_memory().total / 2**30
    facts = {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "Python": platform.python_version(),
        **{name: metadata.version(name) for name in PYTHON_PACKAGES},
        "MongoDB": _say((find_mongod(), "--version"), r"db version v(\S+)"),
    }
    peers = {
        "Node": _say((servers.node(), "--version"), r"v(\S+)"),
        **{name: _node_version(name) for name in NODE_PACKAGES},
        **_starlette_versions(),
        **_go_versions(),
        "nginx": _say((servers.nginx(), "-v"), r"nginx/(\S+)"),
        "nchan": _say(("dpkg-query", "-W", "-f", "${Version}", "libnginx-mod-nchan"), r"(?:\d+:)?([\d.]+)"),
    }
    return facts | {name: version for name, version in peers.items() if version}


def _processor() -> str:
    found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _say(command: Sequence[str], pattern: str) -> str:
    """Return the version that a program prints; empty if the program is missing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found and not done.returncode else ""


def _go_versions() -> dict[str, str]:
    """Return the versions of Go, and of the module for which each peer in Go exists."""
    peers = {"go": servers.Go.program, "mercure": servers.Mercure.program}
    found = {}
    for folder, program in peers.items():
        if program.exists():
            module = (BENCH / "peers" / folder / "go.mod").read_text()
            name, version = re.findall(r"^require (\S+) v(\S+)$", module, re.MULTILINE)[0]
            found |= {"Go": _say(("go", "version", str(program)), r": go(\S+)"), name: version}
    return found


def _node_version(name: str) -> str:
    about = BENCH / "peers" / "node_modules" / name / "package.json"
    return str(json.loads(about.read_text())["version"]) if about.exists() else ""


def _starlette_versions() -> dict[str, str]:
    [*folders] = BUILD.glob("venv/lib/python3*/site-packages")
    found = {
        one.metadata["Name"]: one.version for one in metadata.distributions(path=list(map(str, folders)))
    }
    return {name: found.get(name, "") for name in ("sse-starlette", "uvicorn", "uvloop")}
