"""Runs the load client, `bench/client.c`, as a process."""

from __future__ import annotations

import json
import subprocess
from typing import Any, Self

from bench.build import program

TIMEOUT_SECONDS = 120


class Load:
    """Context manager: a running load client. Takes the program's options, with underscores."""

    def __init__(self, port: int, *, gzip: bool = False, **options: float | str) -> None:
        command = [str(program("client", gzip=gzip)), "--port", str(port)]
        for name, value in {"timeout": TIMEOUT_SECONDS, **options}.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        self._command = [*command, "--gzip"] if gzip else command

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def wait_for(self, state: str) -> dict[str, Any]:
        """Wait until the client reports this state. The client's own time limit ends every wait."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said: dict[str, Any] = json.loads(line)
            if said["state"] == state:
                return said
        raise SystemExit(f"the load client ended before it was {state}")
