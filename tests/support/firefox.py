"""Firefox, headless. It is driven over Marionette, its own protocol: Debian has no geckodriver.

Import the fixtures into the files that use them.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import WAIT_SECONDS

# The port is the system's choice, and Firefox asks nobody outside for anything.
_PREFERENCES = {
    "marionette.port": 0,
    "app.update.enabled": False,
    "app.normandy.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "toolkit.telemetry.server": "data:,",
}


class Firefox:
    """One Firefox with a tab. Methods as those of Browser."""

    def __init__(self, program: str, profile: Path) -> None:
        pairs = [", ".join(map(json.dumps, pair)) for pair in _PREFERENCES.items()]
        lines = [f"user_pref({pair});" for pair in pairs]
        (profile / "user.js").write_text("\n".join(lines))
        command = [program, "--headless", "--no-remote", "--marionette", "--profile", str(profile)]
        with (profile / "log").open("w") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self._profile = profile
        self._number = 0
        self._socket = socket.create_connection(("127.0.0.1", self._port()), timeout=2 * WAIT_SECONDS)
        self._file = self._socket.makefile("rb")
        self._receive()
        self._ask("WebDriver:NewSession", {"capabilities": {}})

    def quit(self) -> None:
        try:
            self._ask("Marionette:Quit", {"flags": ["eForceQuit"]})
            self._process.wait(WAIT_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
            self._file.close()
            self._socket.close()

    def open(self, url: str) -> None:
        """Load a page, and wait until its scripts and styles are there."""
        self._ask("WebDriver:Navigate", {"url": url})

    def new_tab(self) -> str:
        """Open a tab, and go to it."""
        handle: str = self._ask("WebDriver:NewWindow", {"type": "tab", "focus": True})["handle"]
        self.go_to(handle)
        return handle

    def go_to(self, handle: str) -> None:
        self._ask("WebDriver:SwitchToWindow", {"handle": handle, "focus": True})

    def close_tab(self) -> list[str]:
        """Close the tab; the others."""
        others: list[str] = self._ask("WebDriver:CloseWindow", {})
        return others

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page; `return` gives a value back."""
        return self._ask("WebDriver:ExecuteScript", {"script": script, "args": list(arguments)})["value"]

    def wait(self, script: str, *arguments: Any) -> Any:
        """Wait until a JavaScript expression is truthy; its value."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not (value := self.run(f"return {script}", *arguments)):
            text = self.run("return document.body.innerText")[:2000] if time.monotonic() > deadline else None
            assert text is None, f"never came true: {script} {arguments}; the page:\n{text}"
            time.sleep(0.05)
        return value

    def _port(self) -> int:
        """The port, which Firefox writes into its profile."""
        path = self._profile / "MarionetteActivePort"
        deadline = time.monotonic() + WAIT_SECONDS
        while not (path.exists() and path.read_text()):
            assert self._process.poll() is None, (self._profile / "log").read_text()
            assert time.monotonic() < deadline, "Firefox does not start"
            time.sleep(0.05)
        return int(path.read_text())

    def _ask(self, command: str, parameters: dict[str, Any]) -> Any:
        self._number += 1
        data = json.dumps([0, self._number, command, parameters]).encode()
        self._socket.sendall(b"%d:%s" % (len(data), data))
        _, number, error, value = self._receive()
        assert number == self._number
        assert error is None, f"{command}: {error}"
        return value

    def _receive(self) -> Any:
        """The next message: its length, a colon, and JSON."""
        length = b""
        while (digit := self._file.read(1)) != b":":
            assert digit, "Firefox has left"
            length += digit
        return json.loads(self._file.read(int(length)))


@pytest.fixture(name="firefox", scope="module")
def firefox_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    """One Firefox for a file of tests."""
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        pytest.skip("there is no firefox-esr on the PATH; on Debian, tests/system-packages installs it")
    browser = Firefox(program, tmp_path_factory.mktemp("firefox"))
    yield browser
    browser.quit()
