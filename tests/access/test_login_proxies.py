"""nginx and Caddy as they are in deploy/, asking a login service; the server sees only its tokens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.raw_client import RawClient

CONFIGURATION = """
[access]
algorithms = ["HS256"]
key_file = "jwt.key"

[streams.mine]
namespace = "guarded.orders"
filter = { customerId = "$claims.sub" }
"""

PROXIES = ("nginx", "caddy")


class Login:
    """A login service that knows two sessions."""

    def __init__(self, mint: Callable[..., str], seconds: float = 60) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                user = {"session=of-u7": "u7", "session=of-u8": "u8"}.get(self.headers.get("Cookie", ""))
                self.send_response(200 if user and self.path == "/check" else 401)
                if user:
                    self.send_header("X-Brook-Token", mint(sub=user, seconds=seconds))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def replaced(name: str, *pairs: tuple[str, str]) -> str:
    """A file of deploy/, with ports and paths of the test's own."""
    text = (ROOT / "deploy" / name).read_text(encoding="utf-8")
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


def nginx(folder: Path, port: int, brook: int, login: int) -> list[str]:
    site = replaced(
        "nginx-login.conf",
        ("127.0.0.1:3333", f"127.0.0.1:{brook}"),
        ("127.0.0.1:8000", f"127.0.0.1:{login}"),
        ("listen 443 ssl http2;", f"listen 127.0.0.1:{port};"),
        ("ssl_certificate /etc/ssl/brook.example.org.pem;", ""),
        ("ssl_certificate_key /etc/ssl/brook.example.org.key;", ""),
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off;\n{folders}{site}}}\n"
    )
    program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    assert program, "nginx is missing: tests/system-packages names the command that installs it"
    return [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]


def caddy(folder: Path, port: int, brook: int, login: int) -> list[str]:
    program = shutil.which("caddy")
    assert program, "caddy is missing: tests/system-packages names the command that installs it"
    site = replaced(
        "Caddyfile-login",
        ("127.0.0.1:3333", f"127.0.0.1:{brook}"),
        ("127.0.0.1:8000", f"127.0.0.1:{login}"),
        ("brook.example.org {", f"http://127.0.0.1:{port} {{\n\tbind 127.0.0.1"),
    )
    (folder / "Caddyfile").write_text("{\n\tadmin off\n}\n" + site)
    return [program, "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


Start = Callable[[str, int, int], int]


@pytest.fixture
def start_proxy(tmp_path) -> Iterator[Start]:
    """Starts a proxy in front of a server and a login service; returns its port."""
    processes = []

    def start(kind: str, brook: int, login: int) -> int:
        port = free_port()
        command = {"nginx": nginx, "caddy": caddy}[kind](tmp_path, port, brook, login)
        log = (tmp_path / "log").open("wb")
        with log:
            environment = {**os.environ, "HOME": str(tmp_path)}
            processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
        until = time.monotonic() + 20
        while True:
            said = (tmp_path / "log").read_text()
            assert processes[-1].poll() is None, said
            assert time.monotonic() < until, said
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                return port
            time.sleep(0.02)

    yield start
    for process in processes:
        process.terminate()
        process.wait(20)


@pytest.fixture
def login(mint) -> Iterator[Login]:
    with closing(Login(mint)) as login:
        yield login


@pytest.fixture(scope="module")
def guarded(start_guarded) -> Any:
    return start_guarded(CONFIGURATION, "--allowed-host", "brook")


def status(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, b""


@pytest.mark.parametrize("kind", PROXIES)
def test_stream_with_a_session_flows_and_resumes(kind, guarded, login, orders, start_proxy):
    port = start_proxy(kind, guarded.port, login.port)
    session = {"Cookie": "session=of-u7"}

    async def scenario() -> None:
        client = await (await RawClient(port, "/stream/mine", headers=session).connect()).opened()
        assert client.status == 200
        orders.insert_many([{"_id": f"{kind}8", "customerId": "u8"}, {"_id": f"{kind}7", "customerId": "u7"}])
        assert json.loads((await client.next()).data) == {"_id": f"{kind}7", "customerId": "u7"}
        client.close()
        orders.insert_one({"_id": f"{kind}7b", "customerId": "u7"})
        again = RawClient(port, "/stream/mine", headers=session, last_id=client.parser.last_id)
        assert json.loads((await (await again.connect()).next()).data)["_id"] == f"{kind}7b"
        again.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", PROXIES)
def test_client_without_a_session_is_refused_whatever_headers_it_sends(
    kind, guarded, login, mint, orders, start_proxy
):
    port = start_proxy(kind, guarded.port, login.port)
    token = mint(sub="u8")
    for path in ("/stream/mine", "/documents/mine", "/", f"/documents/mine?access_token={token}"):
        assert status(port, path)[0] == 401
        assert status(port, path, Cookie="session=forged")[0] == 401
        for name, value in (("Authorization", f"Bearer {token}"), ("X-Brook-Token", token)):
            assert status(port, path, **{name: value})[0] == 401
    assert status(port, "/metrics", Cookie="session=of-u7")[0] == 404


@pytest.mark.parametrize("kind", PROXIES)
def test_client_with_a_session_cannot_be_somebody_else(kind, guarded, login, mint, orders, start_proxy):
    port = start_proxy(kind, guarded.port, login.port)
    orders.insert_many([{"_id": f"x{kind}{user}", "customerId": user} for user in ("u7", "u8")])
    token = mint(sub="u8")
    for forged in ({}, {"Authorization": f"Bearer {token}"}, {"X-Brook-Token": token}):
        code, body = status(port, "/documents/mine", Cookie="session=of-u7", **forged)
        assert code == 200
        assert {document["customerId"] for document in json.loads(body)["docs"]} == {"u7"}


@pytest.mark.parametrize("kind", PROXIES)
def test_login_service_that_is_away_is_a_stream_that_comes_back(kind, guarded, start_proxy):
    port = start_proxy(kind, guarded.port, free_port())
    code, body = status(port, "/stream/mine", Cookie="session=of-u7")
    assert code == 200
    assert body.startswith(b"retry: 3000\nevent: problem\n")
