"""`server.py` as a user runs it: a process with a log."""

from __future__ import annotations

import queue
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 30


class ServerProcess:
    """One server. `port` is known after `start`, and kept for the next start."""

    def __init__(
        self, *arguments: str, port: int = 0, env: dict[str, str] | None = None, files: int | None = None
    ) -> None:
        self.arguments = arguments
        self.port = port
        self.scheme = "http"
        self.log: list[str] = []
        self._env = env
        self._prefix = ["prlimit", f"--nofile={files}"] if files else []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> Self:
        """Start, or start again on the same port, and wait until each of its processes listens."""
        command = [*self._prefix, sys.executable, str(ROOT / "server.py"), "--host", "127.0.0.1"]
        # A later --host, of the arguments, overrides the one before.
        command += [*self.arguments, "--port", str(self.port)]
        self._lines = queue.Queue()
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=self._env
        )
        self._reader = threading.Thread(target=self._read, args=(self.process, self._lines), daemon=True)
        self._reader.start()
        for _ in range(self._processes):
            match = self.wait_for(r"listening at (https?)://\S+:(\d+)")
            self.scheme, self.port = match[1], int(match[2])
        return self

    def wait_for(self, pattern: str, seconds: float = START_SECONDS) -> re.Match[str]:
        """The next log line that matches."""
        while True:
            try:
                line = self._lines.get(timeout=seconds)
            except queue.Empty:
                raise AssertionError(
                    f"no log line like {pattern!r} in {seconds} s: {self.log[-20:]}"
                ) from None
            if line is None:
                raise AssertionError(f"the server ended before {pattern!r}: {self.log[-20:]}")
            if match := re.search(pattern, line):
                return match

    @property
    def _processes(self) -> int:
        if "--processes" not in self.arguments:
            return 1
        return int(self.arguments[self.arguments.index("--processes") + 1])

    def stop(self, with_signal: signal.Signals = signal.SIGTERM, seconds: float = 20) -> int:
        """Ask it to stop; its exit code. The log is whole then: nothing that it started is left to write."""
        assert self.process is not None
        assert self._reader is not None
        self.process.send_signal(with_signal)
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        assert not self._reader.is_alive()
        return code

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _read(self, process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self.log.append(line.rstrip("\n"))
            lines.put(line)
        process.stderr.close()
        lines.put(None)
