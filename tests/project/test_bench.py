"""The benchmark: its load client must notice whatever a server does wrong, or its figures say nothing."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import pytest

from bench import build, install
from bench.peers import bridge
from bench.run import choose
from bench.servers import ROOT, every_server

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
IDENTITY = HEAD + b"Connection: close\r\n\r\n"

Cut = Callable[[bytes], Iterable[bytes]]


def frame(number: int, line_end: str = "\n") -> bytes:
    document = {"_id": "5bfef740419aeed958bbfa1b", "n": number, "t": time.monotonic_ns() // 1000}
    data = json.dumps(document, separators=(",", ":"))
    return f"id: 82{number:010}{line_end}data: {data}{line_end}{line_end}".encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(data: bytes) -> Iterable[bytes]:
    yield data


def bytewise(data: bytes) -> Iterable[bytes]:
    for i in range(len(data)):
        yield data[i : i + 1]


async def load(head: bytes, body: bytes, *arguments: str, cut: Cut = whole, end: bool = False) -> Any:
    """What the client reports of a server that sends these bytes to each of its connections."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        for piece in cut(head + body):
            writer.write(piece)
            if cut is bytewise:
                # The kernel would otherwise join them into one segment.
                await asyncio.sleep(0.0005)
        if not end:
            # The client leaves with a reset.
            with contextlib.suppress(ConnectionError):
                await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        program = build.program("client", gzip="--gzip" in arguments)
        command = [str(program), "--port", str(port), "--timeout", "20", *arguments]
        client = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        output, _ = await client.communicate()
    assert client.returncode == 0
    *states, last = map(json.loads, output.splitlines())
    assert states[0] == {"state": "open"}
    last["requests"] = requests
    return last


def faults(report: Any) -> dict[str, int]:
    return {name: count for name, count in report["faults"].items() if count}


def run(*arguments: Any, **options: Any) -> Any:
    return asyncio.run(load(*arguments, **options))


@pytest.mark.parametrize("cut", [whole, bytewise])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("chunked", [True, False])
def test_a_good_server_is_without_fault(chunked: bool, line_end: str, cut: Cut) -> None:
    frames = [b"retry: 3000\n\n", frame(1, line_end), b": a keep-alive\n\n", frame(2, line_end)]
    body = b"".join(map(chunk, frames) if chunked else frames)
    report = run(CHUNKED if chunked else IDENTITY, body, "--events", "2", "--clients", "3", cut=cut)
    assert faults(report) == {}
    assert (report["opened"], report["deliveries"], report["keep_alives"]) == (3, 6, 6)
    assert 0 < report["p50_ms"] <= report["max_ms"] < 20_000
    assert report["body_bytes"] == 3 * sum(map(len, frames))


def test_a_line_may_go_on_in_the_next_chunk() -> None:
    text = frame(1) + frame(2)
    body = b"".join(chunk(text[i : i + 7]) for i in range(0, len(text), 7))
    assert faults(run(CHUNKED, body, "--events", "2")) == {}


def test_a_lost_event_is_noticed() -> None:
    report = run(IDENTITY, frame(1) + frame(3), "--events", "3")
    assert faults(report) == {"skipped": 1}


def test_a_lost_last_event_is_noticed() -> None:
    report = run(IDENTITY, frame(1) + frame(2), "--events", "3", "--timeout", "1")
    assert faults(report) == {"missing": 1}


def test_a_repeated_event_is_noticed() -> None:
    assert faults(run(IDENTITY, frame(1) + frame(1) + frame(2), "--events", "2")) == {"backward": 1}


def test_a_repeated_last_event_is_noticed() -> None:
    assert faults(run(IDENTITY, frame(1) + frame(2) + frame(2), "--events", "2")) == {"backward": 1}


def test_reordered_events_are_noticed() -> None:
    report = run(IDENTITY, frame(1) + frame(3) + frame(2) + frame(4), "--events", "4")
    assert faults(report) == {"skipped": 1, "backward": 1}


def test_an_event_is_none_before_its_empty_line() -> None:
    report = run(IDENTITY, frame(1) + frame(2)[:-1], "--events", "2", "--timeout", "1")
    assert (faults(report), report["deliveries"]) == ({"missing": 1}, 1)


def test_an_event_without_a_number_is_noticed() -> None:
    reset = b'event: reset\ndata: {"reason":"history-lost"}\n\n'
    assert faults(run(IDENTITY, reset + frame(1), "--events", "1")) == {"strange": 1}


def test_a_connection_that_ends_early_is_noticed() -> None:
    report = run(IDENTITY, frame(1), "--events", "2", "--clients", "2", end=True)
    assert faults(report) == {"closed": 2, "missing": 2}


def test_a_refusal_is_noticed() -> None:
    report = run(b"HTTP/1.1 503 Service Unavailable\r\n\r\n", b"", "--events", "1", "--clients", "2")
    assert faults(report) == {"refused": 2, "missing": 2}
    assert report["opened"] == 0


def test_the_warm_up_is_not_counted() -> None:
    body = b"".join(map(frame, range(1, 4)))
    report = run(IDENTITY, body, "--warm-up", "3", "--events", "0")
    assert (faults(report), report["deliveries"], report["wire_bytes"]) == ({}, 0, 0)


def test_a_client_that_resumes_expects_what_follows() -> None:
    report = run(IDENTITY, frame(8) + frame(9), "--first", "8", "--events", "2", "--last-event-id", "82AB")
    assert faults(report) == {}
    assert b"\r\nLast-Event-ID: 82AB\r\n" in report["requests"][0]


def test_idle_connections_are_held() -> None:
    began = time.monotonic()
    report = run(CHUNKED, chunk(b":\n\n"), "--hold", "0.5", "--clients", "20")
    assert time.monotonic() - began > 0.5
    assert (report["opened"], faults(report)) == (20, {})


def test_comment_without_an_empty_line_is_a_keep_alive() -> None:
    body = b": a comment\n\n:\n:\n" + frame(1)
    assert run(IDENTITY, body, "--events", "1")["keep_alives"] == 3


def test_a_compressed_stream_is_read() -> None:
    body = gzip.compress(b"".join(map(frame, range(1, 101))))
    report = run(HEAD + b"Content-Encoding: gzip\r\n\r\n", body, "--events", "100", "--gzip")
    assert (faults(report), report["deliveries"]) == ({}, 100)
    assert report["wire_bytes"] < report["body_bytes"] / 5


# -- the harness -----------------------------------------------------------------------------------


def test_usage_of_the_load_client_names_every_option() -> None:
    done = subprocess.run([build.program("client"), "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    options = re.findall(r'\{"([a-z-]+)", [01], 0,', (ROOT / "bench" / "client.c").read_text())
    assert set(re.findall(r"--([a-z-]+)", done.stderr.partition("usage:")[2])) == set(options)


def test_benchmark_measures_reports_and_finds_no_fault(tmp_path):
    """Small sizes: that it works is what this shows, not how fast anything is."""
    results, report = tmp_path / "results.json", tmp_path / "performance.md"
    scenarios = "paced,herd-log,own-filters,10-plain,10-gzip"
    command = [sys.executable, "-m", "bench.run", "--quick", "--runs=1", f"--scenarios={scenarios}"]
    command += [f"--json={results}", f"--report={report}", f"--plot={tmp_path / 'plot.svg'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    measurements = json.loads(results.read_text())["measurements"]
    assert [(one["scenario"], one["server"], one["faults"]) for one in measurements] == [
        ("paced", "brook", {}), ("paced", "floor", {}), ("herd-log", "brook", {}),
        ("own-filters", "brook", {}), ("10-plain", "brook", {}), ("10-gzip", "brook", {}),
    ]  # fmt: skip
    paced, _, herd, *_ = measurements
    assert paced["deliveries"] == 200 * 100
    assert herd["cursors"] <= 4
    page = report.read_text()
    assert "| paced: CPU per delivery, µs |" in page
    assert "Faults: " not in page
    assert "@" not in page, "a place in the template was left open"


class Answers(BaseHTTPRequestHandler):
    """Closes the first connection without an answer, as a server does that is being restarted."""

    bodies: ClassVar[list[str]] = []

    def do_POST(self):
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if len(self.bodies) > 1:
            self.send_response(201)
            self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_bridge_posts_again_what_a_restarting_server_did_not_answer():
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        changes = [{"_id": {"_data": f"82{n}"}, "fullDocument": {"n": n}} for n in (1, 2)]
        bridge.Mercure(server.server_port).take(changes)
        server.shutdown()
        thread.join()
    forms = [dict(parse_qsl(body)) for body in Answers.bodies]
    assert [(form["id"], form["data"]) for form in forms] == [
        ("821", '{"n":1}'), ("821", '{"n":1}'), ("822", '{"n":2}')
    ]  # fmt: skip


def test_missing_peer_is_named_and_left_out(monkeypatch, capsys):
    [go] = [server for server in every_server() if server.name == "go"]
    monkeypatch.setattr(type(go), "program", ROOT / "no such program")
    chosen = choose(argparse.Namespace(servers=["brook", "go"], peers=True))
    assert [server.name for server in chosen] == ["brook"]
    assert "without Go: Go or its packages not installed" in capsys.readouterr().out


def test_install_goes_on_without_go(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    install.build_go(ROOT / "bench" / "peers" / "go", tmp_path / "server")
    assert "the benchmark runs without bench/peers/go" in capsys.readouterr().out


def test_page_holds_what_its_template_says():
    """A renewal writes the page from the template: words that are only in the page would be lost."""
    template = (ROOT / "bench" / "performance.md").read_text()
    page = (ROOT / "docs" / "performance.md").read_text()
    for text in re.split(r"@[A-Z]+@", template):
        assert text in page
    for server in every_server():
        assert server.name == "brook" or f"**{server.title}**" in page or f"*{server.title}*" in page
