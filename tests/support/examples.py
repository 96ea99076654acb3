"""A folder of `examples/`, run as its README says: the server, the application, and the addresses of both."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from tests.support.browser import WAIT_SECONDS, listens
from tests.support.commands import blocks
from tests.support.processes import ROOT, ServerProcess


class Example:
    """A copy of an example with free ports. `environment` is the application's."""

    def __init__(self, name: str, folder: Path, mongo: str, **environment: str) -> None:
        self.folder = folder / name
        shutil.copytree(
            ROOT / "examples" / name, self.folder, ignore=shutil.ignore_patterns("*.key", "__pycache__")
        )
        self._commands = {
            block.info: [line.strip() for line in block.text.splitlines()]
            for block in blocks(self._outdented(self.folder / "README.md"))
        }
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._replace("http://localhost:5000", self.url)
        self._environment = {"MONGO": mongo, **environment}
        self._mongo = mongo
        self.server: ServerProcess | None = None
        self._app: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        for line in self._commands.get("sh key", ()):
            subprocess.run(["sh", "-c", line], cwd=self.folder, check=True, timeout=WAIT_SECONDS)
        program, *options = self._words("sh server")
        assert program == "babbling-brook"
        options[options.index("--mongo") + 1] = self._mongo
        options[options.index("brook.toml")] = str(self.folder / "brook.toml")
        self.server = ServerProcess(*options, "--heartbeat-seconds", "1", "--retry-ms", "50").start()
        self._replace("http://localhost:3333", self.server.url)
        self._start_app()
        return self

    def __exit__(self, *_: object) -> None:
        if self._app is not None:
            self._app.terminate()
            self._app.wait(WAIT_SECONDS)
        if self.server is not None:
            self.server.kill()

    def asked(self) -> int:
        """How often the application was asked for the user, by the page or by the server."""
        log = (self.folder / "log").read_text()
        return log.count('"POST /token ') + log.count('"GET /brook ')

    def _start_app(self) -> None:
        command = [sys.executable, "-m", *self._words("sh app")]
        command[command.index("5000")] = str(self.port)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLASK_")}
        with (self.folder / "log").open("w") as log:
            self._app = subprocess.Popen(
                command, cwd=self.folder, env=inherited | self._environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + WAIT_SECONDS
        while not listens(self.port):
            assert self._app.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _words(self, info: str) -> list[str]:
        [line] = self._commands[info]
        return shlex.split(line)

    def _replace(self, old: str, new: str) -> None:
        for path in self.folder.iterdir():
            if path.suffix in (".toml", ".html"):
                path.write_text(path.read_text().replace(old, new))

    def _outdented(self, page: Path) -> Path:
        """The page without the indentation of its lists, in which blocks are found."""
        plain = self.folder / "README.txt"
        plain.write_text(
            "".join(line.removeprefix("   ") for line in page.read_text().splitlines(keepends=True))
        )
        return plain
