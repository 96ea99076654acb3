"""The comparison with known vulnerabilities, against a service of the test's own."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from locks import audit
from locks.lockfile import LOCKS, parse

TORNADO = next(
    one.version for one in parse((LOCKS / audit.LOCK).read_text(encoding="utf-8")) if one.name == "tornado"
)


class Service:
    """Answers as osv.dev does; `known` are the vulnerabilities of tornado."""

    def __init__(self) -> None:
        self.known: list[Any] = []
        self.asked: list[Any] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append(question)
                hit = question["package"]["name"] == "tornado" and question["version"] == TORNADO
                data = json.dumps({"vulns": outer.known} if hit and outer.known else {}).encode()
                self.send_response(outer.status if len(outer.asked) > 1 else 200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/v1/query"


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    thread = threading.Thread(target=service.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield service
    service.server.shutdown()
    service.server.server_close()
    thread.join()


def test_every_locked_package_is_asked_for_and_none_is_vulnerable(service, capsys):
    assert audit.main("--address", service.address) == 0
    assert capsys.readouterr().out == ""
    asked = {(question["package"]["name"], question["version"]) for question in service.asked[1:]}
    assert ("tornado", TORNADO) in asked
    assert {"click", "motor", "pymongo", "cryptography"} <= {name for name, _ in asked}


def test_vulnerable_package_fails_the_check_and_is_named(service, capsys):
    service.known = [
        {
            "id": "GHSA-test-0001",
            "modified": "2026-01-01T00:00:00Z",
            "published": "2026-01-01T00:00:00Z",
            "summary": "a test",
            "affected": [
                {
                    "package": {"name": "tornado", "ecosystem": "PyPI"},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.1"}]}],
                }
            ],
        }
    ]
    assert audit.main("--address", service.address) == 1
    said = capsys.readouterr().out
    assert said == f"audit: tornado {TORNADO} has GHSA-test-0001; mended in 99.1: make upgrade\n"


def test_service_that_fails_on_the_way_is_one_line_and_no_failure(service, capsys):
    service.status = 500
    assert audit.main("--address", service.address) == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_data_that_cannot_be_reached_are_one_line_and_no_failure(capsys):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}/"
        assert audit.main("--address", address) == 0
    assert capsys.readouterr().out.startswith("audit: the data about vulnerabilities cannot be reached")
