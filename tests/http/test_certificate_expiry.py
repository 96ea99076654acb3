"""A certificate that is not valid now, or not for long: told at the start, after SIGHUP and by `--check`."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from brook.finding import Level
from brook.settings import Settings
from handlers import certificate
from tests.support.certificates import Authority
from tests.support.processes import ROOT


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def found(files: tuple[Path, Path]) -> list[tuple[Level, str]]:
    certificate_file, key = map(str, files)
    settings = Settings(tls_cert=certificate_file, tls_key=key)
    return [(finding.level, finding.says) for finding in certificate.examine(settings)]


@pytest.mark.parametrize(
    ("days", "level", "says"),
    [
        ((-1, 60), Level.OK, r"is valid until \d{4}-\d\d-\d\d, for 59 days"),
        ((-1, 14.1), Level.OK, r"for 14 days"),
        ((-1, 13.9), Level.WARNING, r"expires on \d{4}-\d\d-\d\d, in 13 days"),
        ((-1, 0.1), Level.WARNING, r"in 0 days"),
        ((-90, -1), Level.WARNING, r"expired on \d{4}-\d\d-\d\d: clients refuse it"),
        ((1, 60), Level.WARNING, r"is not valid before \d{4}-\d\d-\d\d \d\d:\d\d UTC: clients refuse it"),
    ],
)
def test_time_of_a_certificate_is_told(days, level, says, authority):
    [(got, text)] = found(authority.issue("own", days=days))
    assert got is level
    assert re.search(says, text), text


def test_every_certificate_of_the_file_is_looked_at(authority, tmp_path):
    own, key = authority.issue("own")
    issuer, _ = authority.issue("issuer", days=(-9, 2.5))
    chain = tmp_path / "chain.pem"
    chain.write_bytes(own.read_bytes() + issuer.read_bytes())
    assert [says.partition(" expires")[0] for _, says in found((chain, key))] == [
        f"the issuer's certificate in {chain}"
    ]


def test_no_certificate_and_files_that_cannot_work(authority, tmp_path):
    assert certificate.examine(Settings()) == []
    own, _ = authority.issue("own")
    [(level, says)] = found((own, tmp_path / "missing.key"))
    assert level is Level.ERROR
    assert "cannot be read" in says


@pytest.mark.parametrize("processes", ["1", "2"])
def test_server_warns_once_at_the_start_and_after_sighup(processes, authority, tmp_path, start_server):
    current = tmp_path / "current.crt", tmp_path / "current.key"

    def install(days: tuple[float, float]) -> None:
        for source, target in zip(authority.issue("own", days=days), current, strict=True):
            shutil.copy(source, target)

    install((-9, 3.5))
    server = start_server(
        "--demo", "--tls-cert", str(current[0]), "--tls-key", str(current[1]), "--processes", processes
    )
    warnings = [line for line in server.log if "expires on" in line]
    assert len(warnings) == 1
    assert "WARNING" in warnings[0]
    assert warnings[0].endswith("in 3 days; renew it, and send SIGHUP to the server")

    install((-9, -1))
    server.process.send_signal(signal.SIGHUP)
    for _ in range(int(processes)):
        server.wait_for("expired on .*: clients refuse it; renew it")
    install((-9, 60))
    server.process.send_signal(signal.SIGHUP)
    for _ in range(int(processes)):
        server.wait_for("new connections get the certificate of")
    assert server.stop() == 0
    assert len([line for line in server.log if "WARNING" in line]) == 1 + int(processes)


def test_check_tells_of_the_certificate(sandbox, authority):
    own, key = authority.issue("own", days=(-9, 3.5))
    command = [
        sys.executable, str(ROOT / "server.py"), "--check", "--mongo", sandbox.uri, "--format", "json",
        "--tls-cert", str(own), "--tls-key",
    ]  # fmt: skip

    def findings(key: Path) -> tuple[int, dict[str, str]]:
        ended = subprocess.run([*command, str(key)], capture_output=True, text=True, timeout=60, check=False)
        [finding] = [
            each for each in json.loads(ended.stdout)["findings"] if each["subject"] == "certificate"
        ]
        return ended.returncode, finding

    status, finding = findings(key)
    assert (status, finding["level"]) == (0, "warning")
    assert "in 3 days" in finding["says"]
    assert "SIGHUP" in finding["remedy"]
    status, finding = findings(own)
    assert (status, finding["level"]) == (1, "error")
    assert "holds no private key" in finding["says"]
