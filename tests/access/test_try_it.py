"""The commands of `docs/configuration.md`, pasted as they stand."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.commands import SECONDS, blocks, replaced
from tests.support.ports import free_port
from tests.support.processes import ROOT

BLOCKS = blocks(ROOT / "docs" / "configuration.md")


@pytest.mark.usefixtures("orders")
def test_commands_end_with_the_open_stream(sandbox, tmp_path: Path):
    port = free_port()
    configuration = next(block.text for block in BLOCKS if block.info == "toml")
    uri = sandbox.uri.replace("/?", "/guarded?")
    (tmp_path / "brook.toml").write_text(
        f"port = {port}\n"
        + replaced(configuration, ("mongodb://localhost:27017/shop", uri), ("shop.orders", "guarded.orders"))
    )
    [commands] = [block.text for block in BLOCKS if block.info == "sh"]
    assert commands.count("localhost:3333") == 2
    said = tmp_path / "said"
    with said.open("w") as output:
        shell = subprocess.Popen(
            ["sh", "-c", commands.replace("localhost:3333", f"localhost:{port}")],
            cwd=tmp_path,
            env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            stdout=output,
            stderr=output,
            # A group of its own: the server in the background must end with it.
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + SECONDS
        while "event: live" not in (text := said.read_text()):
            assert shell.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.02)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
    assert "opens /stream/my-orders: guarded.orders" in text
    assert "the configuration is valid" in text
