"""Rules of the connection: headers, blocks, keep-alives, compression."""

from __future__ import annotations

import re
import time

from conformance.rule import Rule, Subject, equal, expect
from conformance.stream import FIELDS, Silence, Stream

HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "x-accel-buffering": "no",
    "x-content-type-options": "nosniff",
}

# An event may be large; without an event, an opening that takes longer is held back by something.
OPENING_SECONDS = 5.0

# The part of the patience for an answer for which a stream is listened to.
LISTENING = 0.2


def _headers(subject: Subject) -> None:
    with Stream(subject.target, subject.path) as stream:
        equal(stream.status, 200, "the status")
        for name, value in HEADERS.items():
            equal(stream.headers.get(name, "").lower(), value, f"the header {name}")
        cache = stream.headers.get("cache-control", "")
        expect({"no-cache", "no-transform"} <= set(re.split(r",\s*", cache)), f"Cache-Control is {cache!r}")
        expect("content-length" not in stream.headers, "a stream has a Content-Length")


def _opening(subject: Subject) -> None:
    with Stream(subject.target, subject.path) as stream:
        first = stream.block(OPENING_SECONDS)
        retry = first.field("retry")
        expect(retry is not None and retry.isdigit(), f"the first block is {first.lines!r:.200}, not a retry")
        expect(not first.is_event, "the first block is an event")
        if subject.collection:
            second = stream.block(OPENING_SECONDS)
            expect(
                second.id and len(second.lines) == 1, f"the second block is {second.lines!r:.200}, not an id"
            )


def _bytes(subject: Subject) -> None:
    # Such an id is answered with an event.
    with Stream(subject.target, subject.path, headers={"Last-Event-ID": "nonsense"}) as stream:
        stream.opened()
        deadline = time.monotonic() + LISTENING * subject.target.timeout_seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                stream.block(left)
            except Silence:
                break
        expect(b"\r" not in stream.raw, "a line ends with a carriage return")
        expect(not stream.raw.startswith(b"\xef\xbb\xbf"), "the stream begins with a byte order mark")
        try:
            stream.raw.decode()
        except UnicodeDecodeError as error:
            expect(False, f"the stream is not UTF-8: {error}")
        for line in [line for block in stream.blocks for line in block.lines]:
            name, _, value = line.partition(":")
            expect(name in ("", *FIELDS), f"{line!r:.100} is no field of an event stream")
            expect(name != "retry" or value.strip().isdigit(), f"{line!r:.100} is no whole number")
            expect("\0" not in value, f"{line!r:.100} has a NUL in it")


def _keep_alive(subject: Subject) -> None:
    with Stream(subject.target, subject.path, {"ops": "delete"} if subject.collection else {}) as stream:
        stream.opened()
        last, seconds = time.monotonic(), subject.keep_alive_seconds
        try:
            # The second one shows that it goes on. The opening's own position can be the first.
            for _ in range(3):
                last = stream.block(seconds).at
        except Silence as silence:
            expect(False, f"{silence}; the last one came {time.monotonic() - last:.0f} s ago")


def _compression(subject: Subject) -> None:
    with Stream(subject.target, subject.path, headers={"Accept-Encoding": "gzip"}) as stream:
        encoding = stream.headers.get("content-encoding", "identity")
        expect(encoding in ("gzip", "identity"), f"Content-Encoding is {encoding!r}, and was not asked for")
        stream.opened()
        if encoding == "gzip":
            vary = stream.headers.get("vary", "")
            expect(
                "accept-encoding" in vary.lower(), "a cache would serve it to all: Vary lacks Accept-Encoding"
            )


def _uncompressed(subject: Subject) -> None:
    with Stream(subject.target, subject.path, headers={"Accept-Encoding": "identity"}) as stream:
        encoding = stream.headers.get("content-encoding", "identity")
        equal(encoding, "identity", "the encoding for a client that takes none")
        stream.opened()


def _preflight(subject: Subject) -> None:
    asks = {"Origin": "https://app.example", "Access-Control-Request-Method": "GET"}
    answer = subject.target.ask("OPTIONS", subject.path, headers=asks)
    equal(answer.status, 204, "the status of a preflight")
    if answer.headers.get("access-control-allow-origin"):
        allowed = answer.headers.get("access-control-allow-headers", "").lower()
        for name in ("last-event-id", "authorization"):
            expect(name in allowed, f"pages of other origins may not send {name}")


def _health(subject: Subject) -> None:
    answer = subject.target.ask("GET", "/healthz")
    equal(answer.status, 200, "the status of /healthz")
    equal(answer.json(), {"status": "ok"}, "the body of /healthz")


def _ready(subject: Subject) -> None:
    answer = subject.target.ask("GET", "/readyz")
    body = answer.json()
    expect(isinstance(body, dict) and isinstance(body.get("reasons"), list), "/readyz has no list of reasons")
    equal(answer.status, 200 if body["ready"] else 503, "the status of /readyz")
    equal(bool(body["reasons"]), not body["ready"], "reasons while it is not ready")


RULES = (
    Rule("health", "GET /healthz is 200 while the process works", _health),
    Rule("ready", "GET /readyz is 200, or 503 with the reasons", _ready),
    Rule("headers", "A stream's headers keep caches and proxies from holding it back", _headers),
    Rule("opening", "A stream opens at once with a retry, and with a position", _opening),
    Rule("bytes", "A stream is UTF-8 with lines that end with LF, and has known fields alone", _bytes),
    Rule("keep-alive", "A quiet stream sends blocks without an event", _keep_alive),
    Rule("compression", "A compressed stream can be read as it arrives", _compression),
    Rule(
        "no-compression", "A stream is not compressed for a client that takes no compression", _uncompressed
    ),
    Rule("preflight", "OPTIONS is 204, and allows the headers that clients send", _preflight),
)
