"""Compares the locks of a running server with the known vulnerabilities: a part of `make check`.

The data are at osv.dev. Where they cannot be reached, it says so in one line and fails nothing: a check must
not depend on the network.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import urllib.request
from typing import Any

from locks.lockfile import LOCKS

ADDRESS = "https://api.osv.dev/v1/query"

# Time for the first answer, and for all of them.
PROBE_SECONDS = 3
AUDIT_SECONDS = 40

# The packages of a server in production; the others are for development.
LOCK = "serve.txt"


def main(*given: str) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default=ADDRESS)
    address = parser.parse_args(given).address
    found = _audited(address) if _answers(address) else None
    if found is None:
        print("audit: the data about vulnerabilities cannot be reached; nothing was compared")
        return 0
    for package, vulnerability in found:
        versions = ", ".join(vulnerability["fix_versions"]) or "no version yet"
        print(f"audit: {package} has {vulnerability['id']}; mended in {versions}: make upgrade")
    return 1 if found else 0


def _answers(address: str) -> bool:
    question = json.dumps({"package": {"name": "tornado", "ecosystem": "PyPI"}, "version": "6.4"}).encode()
    request = urllib.request.Request(address, question, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PROBE_SECONDS) as answer:
            return isinstance(json.load(answer), dict)
    except (OSError, ValueError):
        return False


def _audited(address: str) -> list[tuple[str, dict[str, Any]]] | None:
    """Each vulnerability, with its package; None if the service did not answer to the end."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(LOCKS / LOCK), "--require-hashes"]
    command += ["--disable-pip", "--vulnerability-service", "osv", "--osv-url", address, "--format", "json"]
    try:
        ended = subprocess.run(
            [*command, "--progress-spinner", "off", "--timeout", "5"],
            capture_output=True, text=True, timeout=AUDIT_SECONDS, check=False,
        )  # fmt: skip
        packages = json.loads(ended.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    return [
        (f"{package['name']} {package['version']}", vulnerability)
        for package in packages
        for vulnerability in package.get("vulns", ())
    ]


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
