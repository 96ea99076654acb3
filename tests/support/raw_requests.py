"""Requests that no client means: made from a seed, of the parts that requests have."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from urllib.parse import quote

METHODS = (
    "GET",
    "GET",
    "GET",
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "OPTIONS",
    "DELETE",
    "TRACE",
    "CONNECT",
    "get",
    "G\0T",
    "",
)
PATHS = (
    "/", "/stream", "/stream/creatures", "/stream/other", "/documents/creatures", "/documents", "/streams",
    "/healthz",
    "/readyz", "/metrics", "/static/page.js", "/static/", "/static/../x", "/static/%00",
    "/static/%2e%2e/x", "/%", "//",
    "/stream/%ff", "/stream/%00", "*", "", "http://localhost/stream", "/stream/" + "a" * 300, "/stream/..",
    "/\u00e9",
    "/static/" + "a" * 300, "/static/page.js/x", "/static/%c3%28",
)  # fmt: skip
NAMES = (
    "since", "filter", "id", "ns", "fields", "ops", "mode", "sort", "limit", "every", "progress", "format",
    "types",
    "before", "checkpoints", "x", "", "%", "filter%00",
)  # fmt: skip
VALUES = (
    "", "now", "0", "1", "-1", "live", "count", "envelope", "ejson", "t1.1", "t99999999999999999999.1",
    "\0", "%",
    "5bfef740419aeed958bbfa1b", "1e999", "\ud800", "\u00e9", "a" * 5000, "2026-11-22T06:00:00Z",
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "insert,update", "-a,b", "-_id", "a.b.c",
    "$", ".", "a..b",
)  # fmt: skip
LITERALS = (
    None, True, 0, -1, 2**63, 2**64, 1e308, float("nan"), float("inf"), "", "x", "\0", "\ud800", [], {}, [[]],
    {"$oid": "x"}, {"$oid": "5bfef740419aeed958bbfa1b"}, {"$date": "9999-12-31T23:59:59.999Z"}, {"$date": {}},
    {"$date": {"$numberLong": "-99999999999999999"}}, {"$numberDecimal": "NaN"}, {"$numberLong": "1e3"},
    {"$binary": {"base64": "%%", "subType": "04"}}, {"$uuid": "x"}, {"$timestamp": {"t": -1, "i": 2**40}},
)  # fmt: skip
OPERATORS = (
    "$eq", "$ne", "$gt", "$in", "$nin", "$exists", "$type", "$and", "$or", "$nor", "$not", "$all",
    "$elemMatch",
    "$size", "$mod", "$where", "$", "", "a", "a.b", "_id", "a.0", "\0", "a." * 60,
)  # fmt: skip
HEADERS = (
    "Last-Event-ID: t1.1", "Last-Event-ID: \xff\xfe",
    "Last-Event-ID: " + "9" * 4000, "Accept-Encoding: gzip;q=",
    "Accept-Encoding: " + "gzip," * 500, "Origin: null", "Origin: \xff", "Accept: \xff", "If-None-Match: *",
    "If-None-Match: \"x", "If-Modified-Since: never", "If-Modified-Since: Mon, 01 Jan 0001 00:00:00 GMT",
    "Range: bytes=9-1", "Range: bytes=-", "Range: bytes=99999999999999999999-", "Expect: 100-continue",
    "Upgrade: h2c", "Connection: close", "Connection: \xff", "Cookie: \xff=\xff; ;;=",
    "Authorization: Basic \xff",
    "Content-Type: application/json", "Content-Type: multipart/form-data; boundary=\xff",
    "Content-Type: multipart/form-data", "Content-Type: application/x-www-form-urlencoded",
    "Content-Encoding: gzip",
    "X-Forwarded-For: \xff,,1.2.3.4:x", "no colon", ": no name", "Space : x", " folded", "X: \0", "X: a\rb",
    "Host: evil.example", "Host: a:b:c", "Host:", "Access-Control-Request-Method: \xff",
    "Transfer-Encoding: gzip",
)  # fmt: skip


class RawRequests:
    """An endless number of requests, the same for the same seed. Each may have one of `headers`, too."""

    def __init__(self, seed: int, headers: Sequence[str] = ()) -> None:
        self._random = random.Random(seed)
        self._headers = headers

    def next(self) -> bytes:
        """One request or several, whole or cut."""
        choose = self._random
        data = b"".join(self._one() for _ in range(choose.choice((1, 1, 1, 2, 3))))
        match choose.random():
            case cut if cut < 0.05:
                return data[: choose.randrange(len(data) + 1)]
            case noise if noise < 0.15:
                mangled = bytearray(data)
                for _ in range(choose.randint(1, 5)):
                    mangled[choose.randrange(len(mangled))] = choose.randrange(256)
                return bytes(mangled)
        return data

    def _one(self) -> bytes:
        choose = self._random
        version = choose.choice(("HTTP/1.1",) * 8 + ("HTTP/1.0", "HTTP/2.0", "HTTP/1.", ""))
        body = self._body()
        headers = ["Host: localhost"] if choose.random() < 0.95 else []
        headers += choose.sample(HEADERS, choose.choice((0, 0, 0, 1, 2, 3)))
        if self._headers and choose.random() < 0.8:
            headers.append(choose.choice(self._headers))
        if body:
            framed = choose.choice((f"Content-Length: {len(body)}",) * 6 + (
                "Content-Length: -1", "Content-Length: 99999999", "Content-Length: 1e3",
                "Transfer-Encoding: chunked",
                f"Content-Length: {len(body)}\r\nContent-Length: 3",
            ))  # fmt: skip
            headers += ["Content-Type: application/json", framed]
            if "chunked" in framed and choose.random() < 0.8:
                body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        choose.shuffle(headers)
        line = f"{choose.choice(METHODS)} {self._url()} {version}"
        head = "\r\n".join([line, *headers, "", ""])
        return head.encode("latin-1", "replace") + body

    def _url(self) -> str:
        choose = self._random
        path = choose.choice(PATHS)
        names = [choose.choice(NAMES) for _ in range(choose.choice((0, 0, 1, 1, 2, 3)))]
        query = "&".join(f"{name}={self._value(name)}" for name in names)
        return f"{path}?{query}" if names else path

    def _value(self, name: str) -> str:
        choose = self._random
        value = choose.choice(VALUES)
        if name in ("filter", "sort") and choose.random() < 0.8:
            value = json.dumps(self._query(4))
        if choose.random() < 0.1:
            return value.encode("utf-8", "replace").decode("latin-1").replace(" ", "")
        return quote(value, errors="surrogatepass")

    def _query(self, depth: int) -> object:
        choose = self._random
        if not depth or choose.random() < 0.3:
            return choose.choice(LITERALS)
        if choose.random() < 0.3:
            return [self._query(depth - 1) for _ in range(choose.randint(0, 3))]
        return {choose.choice(OPERATORS): self._query(depth - 1) for _ in range(choose.randint(0, 3))}

    def _body(self) -> bytes:
        choose = self._random
        if choose.random() < 0.6:
            return b""
        if choose.random() < 0.2:
            return choose.choice(
                (b"{", b"\xff", b"null", b"[]", b'{"subscriptions":1}', b"[" * 5000, b"1e999")
            )
        wanted = {}
        for name in choose.sample(("a", "b", "", "\u00e9", "x" * 65), choose.randint(0, 3)):
            keys = choose.sample((*NAMES[:15], "stream", "snapshot", "of"), choose.randint(0, 4))
            wanted[name] = {"stream": "creatures", "mode": "live"} if choose.random() < 0.7 else {}
            wanted[name] |= {key: choose.choice((self._query(3), choose.choice(VALUES))) for key in keys}
        return json.dumps(
            {"subscriptions": wanted} | choose.choice(({}, {}, {"since": "t1.1"}, {"x": 1}))
        ).encode()
