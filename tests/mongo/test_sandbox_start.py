"""A sandbox whose server is told to stop while it starts: nothing is left behind."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sources.mongo.client import connect
from tests.support.processes import ROOT

# Processes, and seconds: from before there is a mongod to the time at which the server serves.
MOMENTS = [(1, 0.0), (1, 0.3), (1, 1.0), (1, 3.0), (2, 1.0), (2, 3.0)]


def left_behind(folder: Path) -> list[str]:
    """Files and processes that are there because of the sandbox in a folder."""
    # Python itself tries with a file of its own if it can write there.
    files = [str(path) for path in folder.glob("brook-sandbox-*")]
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        if any(str(folder) in word for word in command):
            files.append(" ".join(command))
    return files


@pytest.mark.parametrize(("processes", "seconds"), MOMENTS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_sandbox_that_is_stopped_while_it_starts_leaves_nothing_behind(
    number, seconds, processes, tmp_path, monkeypatch
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = [sys.executable, str(ROOT / "server.py"), "--sandbox", "--port", "0", "--host", "127.0.0.1"]
    server = subprocess.Popen(
        [*command, "--processes", str(processes)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        first = server.stderr.readline()
        assert "starting a throwaway MongoDB" in first
        # Any moment is right: what is left behind must not depend on it.
        time.sleep(seconds)
        server.send_signal(number)
        _, said = server.communicate(timeout=30)
    finally:
        server.kill()
        server.communicate()
    assert server.returncode == (-number if number is signal.SIGKILL else 0), said
    assert "Traceback" not in said
    until = time.monotonic() + 20
    while left := left_behind(tmp_path):
        assert time.monotonic() < until, left
        time.sleep(0.05)


def test_an_error_of_the_drivers_own_tasks_is_one_line(caplog):
    # The driver ends the cursors of a server that is gone in a thread of its own.
    client = connect("mongodb://127.0.0.1:1/shop")
    client.close()
    logger = logging.getLogger("pymongo.client")
    try:
        raise ConnectionRefusedError("127.0.0.1:1: Connection refused")
    except ConnectionRefusedError:
        logger.exception("MongoClient background task encountered an error:")
    assert caplog.text.count("\n") == 1
    assert "127.0.0.1:1: Connection refused" in caplog.text
