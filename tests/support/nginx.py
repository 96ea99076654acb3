"""nginx as a process, with the site of `deploy/nginx.conf` or with another one."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.commands import replaced
from tests.support.ports import free_port
from tests.support.processes import ROOT

START_SECONDS = 20

# The main file, in place of /etc/nginx/nginx.conf; it includes the site. Each client takes two connections.
MAIN = """
{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile 4096;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections {connections}; }}
http {{
access_log off;
client_body_temp_path {folder}/body;
proxy_temp_path {folder}/proxy;
fastcgi_temp_path {folder}/fastcgi;
uwsgi_temp_path {folder}/uwsgi;
scgi_temp_path {folder}/scgi;
{site}
}}
"""

# The options that deploy/nginx.conf says the server needs behind it.
BEHIND_NGINX = ("--allowed-host", "brook.example.org", "--trusted-proxy", "127.0.0.1")


def shipped_site(port: int, *upstreams: int, certificate: tuple[Path, Path] | None = None) -> str:
    """`deploy/nginx.conf` for one server or two; without a certificate and its key, with plain HTTP/1."""
    text = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    first, *others = upstreams
    text = replaced(text, ("server 127.0.0.1:3333", f"server 127.0.0.1:{first}"))
    for other in others:
        text = replaced(text, ("# server 127.0.0.1:3334", f"server 127.0.0.1:{other}"))
    if certificate is None:
        return replaced(
            text,
            ("listen 443 ssl http2;", f"listen 127.0.0.1:{port};"),
            ("ssl_certificate /etc/ssl/brook.example.org.pem;", ""),
            ("ssl_certificate_key /etc/ssl/brook.example.org.key;", ""),
        )
    return replaced(
        text,
        ("listen 443 ssl http2;", f"listen 127.0.0.1:{port} ssl http2;"),
        ("/etc/ssl/brook.example.org.pem", str(certificate[0])),
        ("/etc/ssl/brook.example.org.key", str(certificate[1])),
    )


class Nginx:
    """One nginx, whose files are in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, site: str, *, connections: int = 2048) -> None:
        """Run with this site, which listens at `port`, and wait until it does."""
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program, "nginx is missing: tests/system-packages names the command that installs it"
        path = self._folder / "nginx.conf"
        # Another user could not enter the folder.
        user = "user root;" if os.geteuid() == 0 else ""
        path.write_text(MAIN.format(user=user, folder=self._folder, connections=connections, site=site))
        command = [program, "-p", str(self._folder), "-c", str(path), "-e", str(self._folder / "error.log")]
        checked = subprocess.run([*command, "-t"], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        assert "[warn]" not in checked.stderr, checked.stderr
        self._process = subprocess.Popen(command)
        until = time.monotonic() + START_SECONDS
        while True:
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < until, self.log()
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def log(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self._folder / "error.log").read_text()
        return "nginx wrote no log"


@pytest.fixture(name="new_nginx")
def new_nginx_fixture(tmp_path: Path) -> Iterator[Callable[[], Nginx]]:
    """Makes an nginx that has not started; stops it when the test ends."""
    made: list[Nginx] = []

    def make() -> Nginx:
        folder = tmp_path / f"nginx{len(made)}"
        folder.mkdir()
        made.append(Nginx(folder))
        return made[-1]

    yield make
    for each in made:
        each.stop()
