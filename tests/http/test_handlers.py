"""The handlers over HTTP: what is answered to whom, and with which headers."""

from __future__ import annotations

import asyncio
import json
import re
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from email.utils import parsedate_to_datetime
from unittest import mock
from urllib.parse import quote

import pytest
from tornado.httpclient import HTTPRequest, HTTPResponse
from tornado.iostream import StreamClosedError

from brook.delivery.subscriber import CloseReason
from brook.event import Batch
from handlers.health import HealthHandler
from tests.support.events import events, key
from tests.support.fakes import until
from tests.support.logs import UNICODE_ID, Service, build_service
from tests.support.raw_client import Parser, RawClient, Received

OPENING = b"retry: 3000\n\nid: t100\n\n"
ALLOWED = "Origin, X-Requested-With, Content-Type, Accept, Authorization, Last-Event-ID"
# What every stream's head has besides its `Date`.
STREAM = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": ALLOWED,
    "Vary": "Accept-Encoding",
    "Connection": "keep-alive",
    "Transfer-Encoding": "chunked",
}

gen_test = pytest.mark.gen_test(timeout=30)


def with_settings(**options):
    return pytest.mark.parametrize("options", [options], ids=[""])


@pytest.fixture
def options() -> dict:
    """The settings of the server, for tests that need others."""
    return {}


@pytest.fixture
def service(options) -> Service:
    return build_service(**options)


@pytest.fixture
def app(service):
    return service.app


@pytest.fixture
def fetch(http_client, base_url, service):
    """Ask for a path; whatever the status, the answer is returned."""

    async def ask(path: str = "/stream", **options) -> HTTPResponse:
        options = {"decompress_response": False, "follow_redirects": False} | options
        return await http_client.fetch(HTTPRequest(base_url + path, **options), raise_error=False)

    return ask


@pytest.fixture
def stream(fetch, service):
    """Open a stream, let event 101 happen and the server stop; all that came."""

    async def read(path: str = "/stream", **options) -> HTTPResponse:
        answer = asyncio.ensure_future(fetch(path, **options))
        await until(lambda: len(service.subscribers) or answer.done())
        service.subscribers.publish(Batch(tuple(events(101, 101))))
        await service.keeper.drain(CloseReason.SHUTDOWN, 10)
        return await answer

    return read


@asynccontextmanager
async def asked(port: int, request: bytes) -> AsyncIterator[asyncio.StreamReader]:
    """The answer to a request that is written by hand."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        yield reader
    finally:
        writer.close()
        await writer.wait_closed()


def headers_of(response: HTTPResponse) -> dict[str, str]:
    names = dict(response.headers.get_all())
    headers = {name: ", ".join(response.headers.get_list(name)) for name in names}
    assert is_now(headers.pop("Date"))
    return headers


def is_now(date: str) -> bool:
    return abs(parsedate_to_datetime(date).timestamp() - time.time()) < 60


def heard(response: HTTPResponse) -> list[Received]:
    return Parser().feed(response.body)


def ids(response: HTTPResponse) -> list[str]:
    return [event.id for event in heard(response) if event.event == "message"]


def is_problem(response: HTTPResponse, status: int, code: str, *words: str) -> bool:
    """Whether an answer is a problem document, with everything that belongs to it."""
    assert response.code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "Server" not in response.headers
    body = json.loads(response.body)
    assert list(body) == ["type", "title", "status", "code", "detail"]
    assert (body["type"], body["title"], body["status"]) == ("about:blank", response.reason, status)
    assert all(word in body["detail"] for word in words), body["detail"]
    return body["code"] == code


# -- the stream ------------------------------------------------------------------------------------


@gen_test
async def test_stream_has_exactly_these_headers(stream):
    response = await stream()
    assert (response.code, response.reason) == (200, "OK")
    assert headers_of(response) == STREAM


@gen_test
async def test_stream_begins_with_its_opening_and_ends_with_a_goodbye(stream):
    response = await stream()
    body = re.fullmatch(
        rb'(.*)retry: (\d+)\nevent: bye\ndata: {"reason":"shutdown"}\n\n', response.body, re.DOTALL
    )
    assert body[1] == OPENING + b"id: 000101\ndata: xxxxxxxxxx\n\n"
    assert 1500 <= int(body[2]) <= 4500


@gen_test
async def test_opening_is_flushed_at_once(http_port, http_server):
    with closing(await RawClient(http_port).connect()) as client:
        assert await client.read()
        assert client.raw == OPENING


@gen_test
async def test_http_1_0_gets_the_bare_body_and_its_end_by_the_end_of_the_connection(
    http_port, http_server, service
):
    with closing(await RawClient(http_port, http="1.0").connect()) as client:
        assert client.status == 200
        named = {name.lower(): value for name, value in STREAM.items()} | {"connection": "close"}
        del named["transfer-encoding"]
        assert is_now(client.headers.pop("date"))
        assert client.headers == named
        assert await client.read()
        assert client.raw == OPENING
        await service.keeper.drain(CloseReason.SHUTDOWN, 10)
        while await client.read():
            pass
        assert client.events[-1].event == "bye"


@gen_test
async def test_chunked_body_is_ended_as_it_should(http_port, http_server, service):
    with closing(await RawClient(http_port).connect()) as client:
        await client.opened()
        await service.keeper.drain(CloseReason.SHUTDOWN, 10)
        while await client.read():
            pass
        assert client.events[-1].event == "bye"
        assert await client.reader.read() == b""


# -- compression -----------------------------------------------------------------------------------


@gen_test
@pytest.mark.parametrize("accept", ["gzip", "deflate, GZIP;q=0.5", "br, *"])
async def test_compressed_stream_says_the_same_and_each_piece_is_readable_as_it_comes(
    http_port, http_server, service, accept
):
    request = f"GET /stream HTTP/1.0\r\nAccept-Encoding: {accept}\r\n\r\n".encode()
    async with asked(http_port, request) as reader:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert "\r\nContent-Encoding: gzip\r\n" in head
        assert "\r\nVary: Accept-Encoding\r\n" in head
        inflate = zlib.decompressobj(wbits=31)
        text = b""
        expected = OPENING
        for number in range(101, 111):
            while len(text) < len(expected):
                text += inflate.decompress(await reader.read(65536))
            assert text == expected
            service.subscribers.publish(Batch(tuple(events(number, number))))
            expected += b"id: %06d\ndata: xxxxxxxxxx\n\n" % number


@gen_test
async def test_compressed_chunks_are_read_by_a_client_that_knows_nothing_of_us(fetch, service):
    pieces: list[bytes] = []
    options = {"decompress_response": True, "streaming_callback": pieces.append}
    answer = asyncio.ensure_future(fetch(**options))
    await until(lambda: b"".join(pieces) == OPENING)
    service.subscribers.publish(Batch(tuple(events(101, 101))))
    await until(lambda: b"".join(pieces) == OPENING + b"id: 000101\ndata: xxxxxxxxxx\n\n")
    await service.keeper.drain(CloseReason.SHUTDOWN, 10)
    await asyncio.wait([answer])
    # A checksum of all that one client had would have to be made for that client alone, so there is
    # none at the end: this client says so, once it has everything.
    answer.exception()
    assert Parser().feed(b"".join(pieces))[-1].event == "bye"


@gen_test
@pytest.mark.parametrize("accept", ["", "identity", "gzip;q=0", "br", "*;q=0", "gzip;q=x", "gzipped"])
async def test_client_that_does_not_want_gzip_does_not_get_it(stream, accept):
    response = await stream(headers={"Accept-Encoding": accept})
    assert headers_of(response) == STREAM
    assert ids(response) == [key(101)]


@gen_test
@with_settings(compression="off")
async def test_compression_can_be_switched_off(stream):
    response = await stream(headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in response.headers
    assert ids(response) == [key(101)]


# -- where to start --------------------------------------------------------------------------------


@gen_test
@pytest.mark.parametrize(
    ("query", "header", "first"),
    [
        ("", "", 101),
        ("?since=now", "", 101),
        ("?since=000095", "", 96),
        ("?since=t95", "", 96),
        ("?since=%74%39%35", "", 96),
        ("", "000097", 98),
        ("", "t97", 98),
        ("?since=000095", "000097", 98),
        ("?since=now", "000097", 98),
    ],
)
async def test_last_event_id_goes_before_since_and_that_before_now(stream, query, header, first):
    response = await stream("/stream" + query, headers={"Last-Event-ID": header} if header else {})
    assert response.code == 200
    assert ids(response) == [key(number) for number in range(first, 102)]


@gen_test
async def test_position_older_than_the_memory_is_served_from_the_log(http_port, http_server):
    for client in (RawClient(http_port, last_id=key(50)), RawClient(http_port, "/stream?since=t50")):
        with closing(await client.connect()):
            missed = [key(number) for number in range(51, 101)]
            assert [(await client.next()).id for _ in range(50)] == missed


@gen_test
@pytest.mark.parametrize("rubbish", ["rubbish", "0", "{}", "%ff", "x" * 5000, "a, b", '"'])
async def test_garbage_in_last_event_id_gets_a_reset_and_then_the_live_stream(stream, rubbish):
    response = await stream(headers={"Last-Event-ID": rubbish})
    assert response.code == 200
    reset, event, bye = heard(response)
    assert (reset.event, reset.id) == ("reset", "")
    assert json.loads(reset.data) == {"reason": "invalid-id", "since": rubbish[:200]}
    assert b"\n\nid: t100\n\nid: 000101\n" in response.body
    assert (event.id, bye.event) == (key(101), "bye")


@gen_test
async def test_last_event_id_is_utf8_as_browsers_send_it(http_port, http_server):
    request = b"GET /stream HTTP/1.0\r\nLast-Event-ID: " + UNICODE_ID.encode() + b"\r\n\r\n"
    async with asked(http_port, request) as reader:
        await reader.readuntil(b"\r\n\r\n")
        first = await reader.readuntil(b"\n\n") + await reader.readuntil(b"\n\n")
    assert first == b"retry: 3000\n\nid: 000100\ndata: xxxxxxxxxx\n\n"


@gen_test
@pytest.mark.parametrize("rubbish", ["rubbish", "", "NOW", " now", "t1.5", "x" * 5000])
async def test_garbage_in_since_is_the_fault_of_who_wrote_it(fetch, rubbish):
    response = await fetch("/stream?since=" + quote(rubbish))
    assert is_problem(response, 400, "invalid-id", "six digits")


# -- bad requests ----------------------------------------------------------------------------------


@gen_test
@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?sinse=now", ["'sinse'", "since"]),
        ("?Since=now", ["'Since'"]),
        ("?=now", ["''"]),
        ("?since=now&x", ["'x'"]),
        ("?%ff=1", ["unknown parameter"]),
        ("?a%0d%0aX-Injected:%20yes=1", ["'a\\r\\n"]),
        ("?" + "x" * 3000 + "=1", ["x" * 50 + "'"]),
        ("?since=now&since=now", ["'since'", "2 times"]),
        ("?since=t1&since=t2&since=t3", ["'since'", "3 times"]),
        ("?since=%ff", ["UTF-8"]),
        ("?since=%C3%28", ["UTF-8"]),
    ],
)
async def test_misspelt_repeated_or_malformed_parameter_is_refused(fetch, service, query, words):
    response = await fetch("/stream" + query)
    assert is_problem(response, 400, "invalid-parameter", *words)
    assert "X-Injected" not in response.headers
    assert len(response.body) < 500
    assert len(service.subscribers) == 0


@gen_test
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/stream", "/healthz", "/readyz", "/", "/static/page.js"])
async def test_method_that_is_not_allowed_names_those_that_are(fetch, method, path):
    if (method, path) == ("POST", "/stream"):
        path = "/stream/creatures"  # POST goes to /stream alone
    body = None if method == "DELETE" else "x"
    response = await fetch(path, method=method, body=body)
    assert is_problem(response, 405, "method-not-allowed")
    assert {"GET", "OPTIONS"} <= set(response.headers["Allow"].split(", "))


@gen_test
async def test_head_of_the_stream_is_not_allowed_and_does_not_join(fetch, service):
    response = await fetch(method="HEAD")
    assert (response.code, response.body) == (405, b"")
    assert len(service.subscribers) == 0


@gen_test
@pytest.mark.parametrize(
    "path",
    ["/nothing", "/stream/", "/streams/", "/stream/a/b", "/static", "/static/", "/static/nothing.js",
     "/healthz/", "/index.html", "/%00", "//stream"],
)  # fmt: skip
async def test_path_that_leads_nowhere_is_not_found(fetch, path):
    assert is_problem(await fetch(path), 404, "not-found")


@gen_test
@pytest.mark.parametrize("name", ["creatures", "other.things", "%C3%A4", "x" * 3000])
async def test_stream_that_nobody_named_is_unknown(fetch, service, name):
    response = await fetch("/stream/" + name)
    assert is_problem(response, 404, "unknown-stream")
    assert len(response.body) < 500
    assert len(service.subscribers) == 0


@gen_test
@pytest.mark.parametrize("path", ["/static/../server.py", "/static/%2e%2e/server.py", "/static//etc/passwd"])
async def test_files_outside_of_the_static_folder_are_not_served(http_port, http_server, path):
    async with asked(http_port, f"GET {path} HTTP/1.0\r\n\r\n".encode()) as reader:
        answer = await reader.read()
    assert re.match(rb"HTTP/1.[01] 404 ", answer)
    assert b'"code": "not-found"' in answer
    assert b"import" not in answer
    assert b"root:" not in answer


@gen_test
async def test_fault_of_ours_says_nothing_of_what_is_inside(fetch, caplog):
    response = await fetch("/stream?since=a%20bug")
    assert is_problem(response, 500, "internal-server-error", "see the server log")
    assert b"swordfish" not in response.body
    assert "swordfish" in caplog.text


@gen_test
async def test_fault_of_ours_after_the_socket_was_taken_over_ends_the_connection(
    http_port, http_server, service, caplog
):
    with mock.patch.object(service.source, "joined", side_effect=RuntimeError("a bug of ours")):
        async with asked(http_port, b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n") as reader:
            await reader.read()
    assert "a bug of ours" in caplog.text
    await until(lambda: len(service.subscribers) == 0)


@gen_test
async def test_client_that_leaves_before_its_answer_is_no_fault_of_ours(fetch, caplog):
    with mock.patch.object(HealthHandler, "get", side_effect=StreamClosedError):
        await fetch("/healthz")
    assert "failed" not in caplog.text
    with mock.patch.object(HealthHandler, "get", side_effect=RuntimeError):
        await fetch("/healthz")
    assert "GET /healthz failed" in caplog.text


# -- other origins ---------------------------------------------------------------------------------


@gen_test
@pytest.mark.parametrize("path", ["/stream", "/stream/a", "/documents/a", "/", "/healthz", "/readyz"])
async def test_preflight_is_answered(fetch, path):
    headers = {
        "Origin": "https://example.org",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "last-event-id, authorization",
    }
    response = await fetch(path, method="OPTIONS", headers=headers)
    assert (response.code, response.body) == (204, b"")
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert response.headers["Access-Control-Allow-Headers"] == ALLOWED
    methods = "GET, POST, OPTIONS" if path.startswith("/stream") else "GET, OPTIONS"
    assert response.headers["Access-Control-Allow-Methods"] == methods
    assert response.headers["Access-Control-Max-Age"] == "7200"
    assert "Access-Control-Allow-Credentials" not in response.headers, "no site may read as its visitor"
    assert "Content-Type" not in response.headers


@gen_test
@with_settings(cors_origin=("https://example.org", "http://localhost:8080"))
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://example.org", True),
        ("http://localhost:8080", True),
        ("http://localhost", False),
        ("*", False),
        ("https://example.org.evil.example", False),
        ("http://example.org", False),
        ("https://EXAMPLE.org", False),
        ("null", False),
        ("", False),
    ],
)
async def test_only_configured_origins_are_allowed_and_caches_are_told(stream, method, origin, allowed):
    response = await stream(method=method, headers={"Origin": origin} if origin else {})
    names = headers_of(response)
    assert names.get("Access-Control-Allow-Origin") == (origin if allowed else None)
    assert names.get("Access-Control-Allow-Credentials") == ("true" if allowed else None)
    assert ("Access-Control-Allow-Headers" in names) == allowed
    assert "Origin" in names["Vary"].split(", ")


@gen_test
@with_settings(cors_origin=("",))
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
async def test_other_origins_can_be_shut_out(stream, method):
    response = await stream(method=method, headers={"Origin": "https://example.org"})
    assert not [name for name in response.headers if name.lower().startswith("access-control-allow-origin")]


@gen_test
@with_settings(cors_origin=("https://example.org",))
async def test_problems_can_be_read_by_the_allowed_origin_too(fetch):
    headers = {"Origin": "https://example.org"}
    for path in ("/stream?x=1", "/nothing", "/stream?since=rubbish"):
        response = await fetch(path, headers=headers)
        assert response.headers["Access-Control-Allow-Origin"] == "https://example.org"
        assert "Origin" in response.headers["Vary"]


@gen_test
@pytest.mark.parametrize(
    "path",
    ["/", "/static/page.js", "/healthz", "/readyz", "/nothing", "/stream?x=1", "/documents/a", "/static/x"],
)
async def test_no_answer_can_run_be_framed_or_tell_its_address_elsewhere(fetch, path):
    response = await fetch(path)
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert "Server" not in response.headers


# -- health ----------------------------------------------------------------------------------------


@gen_test
async def test_health_is_good_while_the_process_works(fetch, service):
    service.readiness.drain()
    service.feed.running = False
    response = await fetch("/healthz")
    assert (response.code, json.loads(response.body)) == (200, {"status": "ok"})
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Type"].startswith("application/json")


@gen_test
async def test_ready_says_yes_or_why_not(fetch, service):
    async def ask() -> tuple[int, dict]:
        response = await fetch("/readyz")
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Content-Type"].startswith("application/json")
        return response.code, json.loads(response.body)

    assert await ask() == (200, {"ready": True, "reasons": []})
    service.source.interruption = "the database does not answer"
    assert await ask() == (503, {"ready": False, "reasons": ["the database does not answer"]})
    service.source.interruption = None
    assert (await ask())[0] == 200
    service.feed.running = False
    assert await ask() == (503, {"ready": False, "reasons": ["the feed has stopped"]})
    service.feed.started.clear()
    assert await ask() == (503, {"ready": False, "reasons": ["the history is being filled"]})
    service.readiness.drain()
    reasons = ["the server is stopping", "the history is being filled"]
    assert await ask() == (503, {"ready": False, "reasons": reasons})


# -- not now ---------------------------------------------------------------------------------------


@gen_test
@pytest.mark.parametrize("code", ["draining", "not-ready"])
async def test_what_will_pass_is_a_short_stream_as_any_other_status_would_stop_a_browser(
    fetch, service, code
):
    if code == "draining":
        service.readiness.drain()
    service.feed.running = code != "not-ready"
    retries = set()
    for _ in range(10):
        response = await fetch(headers={"Last-Event-ID": key(95)})
        assert response.code == 200
        names = headers_of(response)
        for name in ("Content-Type", "Cache-Control", "X-Accel-Buffering", "Access-Control-Allow-Origin",
                     "Access-Control-Allow-Headers"):  # fmt: skip
            assert names[name] == STREAM[name]
        parser = Parser(last_id=key(95))
        [problem] = parser.feed(response.body)
        assert problem.event == "problem"
        assert problem.id == key(95), "it must come back to where it was"
        body = json.loads(problem.data)
        assert (body["status"], body["code"], body["title"]) == (503, code, "Service Unavailable")
        assert body["type"] == "about:blank"
        assert 1500 <= parser.retry <= 4500
        retries.add(parser.retry)
    assert len(retries) > 1
    assert len(service.subscribers) == 0


@gen_test
async def test_what_will_pass_ends_the_connection_so_that_the_client_may_come_to_another_server(
    http_port, http_server, service
):
    service.readiness.drain()
    async with asked(http_port, b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n") as reader:
        answer = await reader.read()
    assert b"\r\nConnection: close\r\n" in answer
    assert b"\nevent: problem\n" in answer


# -- the page --------------------------------------------------------------------------------------


@gen_test
async def test_page_and_its_files_are_served_with_a_policy_that_lets_nothing_in_them_run(fetch):
    page = await fetch("/")
    assert page.code == 200
    assert page.headers["Content-Type"].startswith("text/html")
    files = re.findall(r'(?:src|href)="(static/[^"]+)"', page.body.decode())
    assert len(files) >= 2
    for response in [page, *[await fetch("/" + name) for name in files]]:
        assert response.code == 200
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert "unsafe" not in response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-cache"
    again = await fetch("/", headers={"If-None-Match": page.headers["Etag"]})
    assert (again.code, again.body) == (304, b"")
