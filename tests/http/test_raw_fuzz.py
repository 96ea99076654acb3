"""Requests that no client means, against a running server: no 500, no traceback, no hang."""

from __future__ import annotations

import asyncio
import os
import re
import time
import urllib.request
from collections.abc import Sequence

import jwt
import pytest

from tests.support.guarded import SECRET
from tests.support.processes import ServerProcess
from tests.support.raw_requests import RawRequests

# Another seed, and more requests: FUZZ="7 20000".
SEED, COUNT = map(int, os.environ.get("FUZZ", "1 1500").split())

AT_ONCE = 100

# The server gives up on a request after half a second. Whatever takes as long as this hangs.
HANG_SECONDS = 20


async def answer(port: int, request: bytes) -> bytes:
    """The answer to a request, until it ends; a stream's until its first block."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        writer.write(request)
        async with asyncio.timeout(HANG_SECONDS):
            while data := await reader.read(65536):
                received += data
                if b"text/event-stream" in received and received.partition(b"\r\n\r\n")[2]:
                    break
    except ConnectionError:
        pass  # it was not taken to its end
    finally:
        writer.close()
    return received


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"^HTTP/1\.1 (\d{3}) ", answer, re.M)]


def fuzz(server: ServerProcess, headers: Sequence[str] = ()) -> dict[int, int]:
    """The number of answers by status."""
    seen: dict[int, int] = {}

    async def one(request: bytes) -> None:
        try:
            received = await answer(server.port, request)
        except TimeoutError:
            raise AssertionError(f"it hangs: {request!r}") from None
        for status in statuses(received):
            assert status < 500 or status == 503, f"{status} for {request!r}"
            seen[status] = seen.get(status, 0) + 1

    async def scenario() -> None:
        requests = RawRequests(SEED, headers)
        for _ in range(COUNT // AT_ONCE):
            await asyncio.gather(*(one(requests.next()) for _ in range(AT_ONCE)))

    asyncio.run(scenario())
    return seen


def is_well(server: ServerProcess) -> None:
    bad = [line for line in server.log if re.search(r"Traceback|ERROR|Error|exception", line)]
    assert not bad, bad[:20]
    with urllib.request.urlopen(server.url + "/readyz", timeout=HANG_SECONDS) as ready:
        assert ready.status == 200
    assert server.stop() == 0


PATIENCE = ("--request-timeout-seconds", "0.5", "--heartbeat-seconds", "1")


@pytest.mark.parametrize("mode", ["demo", pytest.param("mongo", marks=pytest.mark.mongod)])
def test_no_request_breaks_the_server(mode, request, start_server):
    if mode == "demo":
        server = start_server("--demo", *PATIENCE)
    else:
        sandbox, database = request.getfixturevalue("sandbox"), request.getfixturevalue("database")
        database.creatures.insert_many([{"a": 1}, {"a": {"b": [1, 2]}}, {"b": "x"}])
        server = start_server("--mongo", sandbox.uri, "--database", database.name, *PATIENCE)
    seen = fuzz(server)
    # It would be no test if all were refused in the same way.
    assert {200, 204, 400, 404, 405, 421} <= set(seen)
    is_well(server)


CONFIGURATION = """
[access]
algorithms = ["HS256"]
key_file = "jwt.key"
cookie = "session"
query_token = true
signed_streams = true

[streams.creatures]
namespace = "{database}.creatures"
filter = {{ owner = "$claims.sub" }}

[streams.default]
namespace = "{database}.creatures"
public = true
"""


def test_no_request_breaks_a_guarded_server(sandbox, database, tmp_path, start_server):
    database.creatures.insert_many([{"owner": "u7", "a": 1}, {"owner": "u8", "b": "x"}])
    (tmp_path / "jwt.key").write_text(SECRET)
    (tmp_path / "brook.toml").write_text(CONFIGURATION.format(database=database.name))
    server = start_server("--mongo", sandbox.uri, "--config", str(tmp_path / "brook.toml"), *PATIENCE)

    def token(**claims: object) -> str:
        return jwt.encode({"exp": time.time() + 600, **claims}, SECRET, "HS256")

    inbox = {"namespace": f"{database.name}.creatures", "filter": {"$where": 1}, "fields": ["", "$"]}
    good = token(sub="u7")
    tokens = [
        good, token(sub="u7", exp=1), token(sub={"$gt": ""}), token(sub=None), token(sub="\0\ud83e" * 9),
        token(brook={"streams": {"other": inbox}}), token(brook={"streams": [1]}), token(brook=7), good[:-5],
        good + ".x", "..", "e30.e30.e30", "\xff", "", "a" * 9000,
    ]  # fmt: skip
    headers = [f"Authorization: Bearer {one}" for one in tokens] + [f"Authorization: Bearer {good}"] * 10
    headers += [f"Cookie: session={one}" for one in tokens]
    seen = fuzz(server, headers)
    assert {200, 204, 400, 401, 403, 404, 405, 421} <= set(seen)
    is_well(server)
