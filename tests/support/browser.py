"""Chromium, headless, as the page's reader, and what may stand between it and the server.

Import the fixtures into the files that use them.
"""

from __future__ import annotations

import functools
import http.server
import json
import queue
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from selenium import webdriver
from selenium.webdriver.support.wait import WebDriverWait

# Generous: the machine may be busy, and nothing here waits longer than it has to.
WAIT_SECONDS = 30

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
    "--window-size=1000,800",
)  # fmt: skip


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"there is no {name} on the PATH; tests/system-packages installs it"
    return found


class Browser:
    """One Chromium, with one tab."""

    def __init__(self, profile: Path, *flags: str) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = _program("chromium")
        for flag in (*_FLAGS, *flags, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        # Both programs are named, so Selenium does not look for them elsewhere.
        service = webdriver.ChromeService(_program("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)

    def open(self, url: str, *, policy: bool = True) -> None:
        """Load a page, and wait until its scripts and styles are there; without its policy, to run others."""
        self.driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": not policy})
        self.driver.get(url)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page; `return` gives a value back."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, script: str, *arguments: Any) -> Any:
        """Wait until a JavaScript expression is truthy; its value."""

        def value(_: object) -> Any:
            return self.run(f"return {script}", *arguments)

        try:
            return WebDriverWait(self.driver, WAIT_SECONDS, poll_frequency=0.05).until(value)
        except Exception as error:
            page = self.run("return document.body.innerText")[:2000]
            raise AssertionError(f"never came true: {script} {arguments}; the page:\n{page}") from error

    def log(self) -> list[str]:
        """What the console said since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def emulate(self, *, scheme: str = "", width: int = 0) -> None:
        """A colour scheme and a phone's width; without arguments, back to neither."""
        features = [{"name": "prefers-color-scheme", "value": scheme}] if scheme else []
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        if width:
            metrics = {"width": width, "height": 640, "deviceScaleFactor": 1, "mobile": True}
            self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        else:
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    # -- what the page shows -----------------------------------------------------------------------

    def items(self) -> list[str]:
        """The texts of the list, oldest first."""
        return self.run("return [...document.querySelectorAll('#events li')].map(li => li.textContent)")

    def wait_for_items(self, enough: int | Callable[[list[str]], bool]) -> list[str]:
        """The list, once it has that many items or satisfies a condition."""
        if callable(enough):
            WebDriverWait(self.driver, WAIT_SECONDS, poll_frequency=0.05).until(
                lambda _: enough(self.items())
            )
        else:
            self.wait("document.querySelectorAll('#events li').length >= arguments[0]", enough)
        return self.items()

    def text(self, id: str) -> str:
        """The text of one element."""
        return self.run("return document.getElementById(arguments[0]).textContent", id)

    def wait_for_state(self, state: str) -> None:
        """Wait until the page says how the connection is."""
        self.wait("document.documentElement.dataset.state === arguments[0]", state)


@pytest.fixture(name="chromium", scope="module")
def chromium_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One Chromium for a file of tests."""
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.driver.quit()


@pytest.fixture(name="page")
def page_fixture(chromium: Browser) -> Iterator[Browser]:
    """The browser with an empty tab, before and after."""
    chromium.emulate()
    chromium.log()
    yield chromium
    chromium.driver.get("about:blank")


def json_of(item: str) -> Any:
    """The document in a list item."""
    return json.loads(item.partition(": ")[2])


# -- what stands between the browser and the server --------------------------------------------------


class Relay:
    """Passes bytes on between a browser and a server, remembers them, and can cut every connection."""

    def __init__(self, port: int) -> None:
        self.sent = b""
        self.received = b""
        self.checkpoints_when_cut: list[str] = []
        self._target = port
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def stream_requests(self) -> list[str]:
        """The heads of the requests for the stream, oldest first."""
        return re.findall(r"GET /stream .*?\r\n\r\n", self.sent.decode(), re.DOTALL)

    def checkpoints(self) -> list[str]:
        """The ids that came in a block of their own, oldest first."""
        return [id.decode() for id in re.findall(rb"id: (t[0-9.]+)\n\n", self.received)]

    def cut(self) -> None:
        """End every connection, in both directions."""
        with self._lock:
            sockets, self._sockets = self._sockets, []
            self.checkpoints_when_cut = self.checkpoints()
        for end in sockets:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other side was faster
            end.close()

    def wait(self, condition: Any) -> None:
        until = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < until, f"it never came: {self.received[-2000:]!r}"
            time.sleep(0.01)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            with self._lock:
                self._sockets += [client, server]
            for ends, name in (((client, server), "sent"), ((server, client), "received")):
                threading.Thread(target=self._pass_on, args=(*ends, name), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, name: str) -> None:
        try:
            while data := source.recv(65536):
                # What is compressed could not be read in between.
                data = data.replace(b"Accept-Encoding: ", b"X-No-Encoding: ")
                with self._lock:
                    if source not in self._sockets:
                        return  # cut: what comes now must not get through
                    setattr(self, name, getattr(self, name) + data)
                    target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # cut, or the peer has left


class ScriptedServer:
    """Serves the page, and gives the requests for the stream the answers of the test, one by one.

    Each has to wait for its answer. A body ends with its connection.
    """

    def __init__(self, static: Path) -> None:
        self._answers: queue.Queue[str | int | None] = queue.Queue()
        answers = self._answers

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.startswith("/stream"):
                    self._stream(answers.get())
                    return
                self.path = self.path.removeprefix("/static") if self.path != "/" else "/index.html"
                super().do_GET()

            def _stream(self, answer: str | int | None) -> None:
                if answer is None:
                    answers.put(None)  # the test is over, for the next one too
                    return
                status, body = (answer, "") if isinstance(answer, int) else (200, answer)
                self.send_response(status)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                pass

        handler = functools.partial(Handler, directory=str(static))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.put(None)
        self._server.shutdown()
        self._server.server_close()

    def answer(self, answer: str | int) -> None:
        """A stream's body, or the status of a refusal, for the next request that has none yet."""
        self._answers.put(answer)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(name="nginx")
def nginx_fixture(tmp_path: Path) -> Iterator[Any]:
    """Starts an nginx that serves a server's page below /brook/; returns the page's address."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(port: int) -> str:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            own = probe.getsockname()[1]
        temporary = "".join(
            f"{kind}_temp_path {tmp_path}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = tmp_path / "nginx.conf"
        config.write_text(
            f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/error.log;"
            "events { worker_connections 64; }"
            f"http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{own};"
            f"location /brook/ {{ proxy_pass http://127.0.0.1:{port}/; }} }} }}"
        )
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
        assert program, "there is no nginx; tests/system-packages installs it"
        command = [program, "-p", str(tmp_path), "-c", str(config), "-e", str(tmp_path / "error.log")]
        processes.append(subprocess.Popen(command))
        until = time.monotonic() + WAIT_SECONDS
        while not listens(own):
            assert processes[-1].poll() is None, (tmp_path / "error.log").read_text()
            assert time.monotonic() < until, "nginx does not answer"
            time.sleep(0.02)
        return f"http://127.0.0.1:{own}/brook/"

    yield start
    for process in processes:
        process.terminate()
        process.wait(WAIT_SECONDS)
