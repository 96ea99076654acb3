"""The client library, tested by Node's own test runner: a file of tests here is one test of pytest's."""

from __future__ import annotations

import gzip
import re
import subprocess

import pytest

from tests.support.node import ESBUILD, NODE
from tests.support.processes import ROOT

FOLDER = ROOT / "tests" / "client"
FILES = sorted(path.name for path in FOLDER.glob("*.test.mjs"))

# The files of a page that shares no connection with other tabs. One that does loads brook-tabs.js, too.
CORE_BYTES = 6_000


@pytest.mark.parametrize("name", FILES)
def test_tests_of_the_client_pass(name):
    command = [NODE, "--test", "--test-reporter=spec", FOLDER / name]
    run = subprocess.run(command, capture_output=True, text=True, timeout=150, cwd=FOLDER, check=False)
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-5_000:]
    assert int(re.search(r"^\S tests (\d+)$", run.stdout, re.M)[1]) > 2


def test_core_is_small_enough_for_every_page():
    """As a bundler ships it, compressed."""
    command = [ESBUILD, "--bundle", "--minify", "--format=esm", "--external:./brook-tabs.js"]
    run = subprocess.run(
        [*command, ROOT / "static" / "brook.js"], capture_output=True, check=True, timeout=60
    )
    assert 3_000 < len(gzip.compress(run.stdout, 9)) < CORE_BYTES
