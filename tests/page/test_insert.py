"""Test documents for the sandbox, from the page and over HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.support.browser import chromium_fixture, page_fixture  # noqa: F401 - fixtures
from tests.support.processes import ServerProcess
from tests.support.raw_client import RawClient

GUARDED = """
[access]
algorithms = ["HS256"]
key_file = "key"

[streams.creatures]
namespace = "babblingBrook.creatures"
"""


@pytest.fixture(scope="module")
def server():
    """A server with a MongoDB of its own, whose writer has a collection to itself."""
    server = ServerProcess("--sandbox", "--collection", "babble", "--collection", "creatures").start()
    yield server
    server.kill()


def post(
    server: ServerProcess, path: str, body: str | bytes, kind: str = "application/json"
) -> tuple[int, Any]:
    data = body.encode() if isinstance(body, str) else body
    request = urllib.request.Request(
        server.url + path, data, {"Content-Type": kind, "Origin": "http://else.where"}
    )
    try:
        answer = urllib.request.urlopen(request, timeout=20)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        if answer.status != 404:
            assert "Access-Control-Allow-Origin" not in answer.headers
        return answer.status, json.load(answer)


def streams(server: ServerProcess) -> Any:
    with urllib.request.urlopen(server.url + "/streams", timeout=20) as answer:
        return json.load(answer)


def test_document_is_inserted_from_the_page_and_seen_in_it(page, server):
    page.open(server.url + "?view=documents&stream=creatures")
    page.wait("!document.getElementById('insert').hidden")
    page.run("document.querySelector('#insert summary').click()")
    text = page.driver.find_element("css selector", "#insert textarea")
    text.clear()
    text.send_keys('{"_id": 7, "type": "newt", "born": {"$date": "2026-01-01T00:00:00Z"}}')
    page.run("document.querySelector('#insert button').click()")
    page.wait("document.querySelector('#documents-frame tbody')?.innerText.includes('newt')")
    page.wait("document.getElementById('insert-told').textContent === 'Inserted'")
    # The same again: the reason is told beside the text, and to a screen reader.
    page.run("document.querySelector('#insert button').click()")
    page.wait("document.getElementById('insert-told').textContent.includes('duplicate key')")
    assert text.get_attribute("aria-invalid") == "true"
    assert "status of 400" in page.log()[0]


@pytest.mark.gen_test
async def test_position_of_the_write_is_the_place_to_listen_from(server):
    assert streams(server)["sandbox"] is True
    _, first = post(server, "/sandbox/creatures", '{"n": 1}')
    status, second = post(server, "/sandbox/creatures", '{"n": 2}')
    assert status == 201
    post(server, "/sandbox/creatures", '{"n": 3}')
    for position, then in ((first["position"], 2), (second["position"], 3)):
        client = await RawClient(server.port, f"/stream/creatures?since={position}").connect()
        assert json.loads((await client.next()).data)["n"] == then
        client.close()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("{a: 1}", "the document is not JSON"),
        ("[1]", "a document is an object"),
        (b"\xff", "is not UTF-8"),
        ('{"a": 99999999999999999999}', "cannot be stored"),
        ('{"_id": [1]}', "MongoDB refuses the document"),
        ('{"_id": {"$date": "soon"}}', "not extended JSON"),
        ('{"_id": {"$date": "0001-01-01T00:00:00+23:59"}}', "not extended JSON"),
        ('{"a": {"$numberDecimal": "x"}}', "not extended JSON"),
        ('{"a": {"$regularExpression": 1}}', "not extended JSON"),
        ("[" * 20_000, "not extended JSON"),
    ],
)
def test_what_is_no_document_is_refused_with_the_reason(server, body, why):
    status, problem = post(server, "/sandbox/creatures", body)
    assert (status, problem["code"]) == (400, "bad-request")
    assert why in problem["detail"]


def test_page_of_another_site_cannot_insert(server):
    status, problem = post(server, "/sandbox/creatures", '{"n": 1}', kind="text/plain")
    assert status == 400
    assert "Content-Type: application/json" in problem["detail"]
    request = urllib.request.Request(
        server.url + "/sandbox/creatures",
        b'{"n": 1}',
        {"Content-Type": "application/json", "Sec-Fetch-Site": "cross-site"},
    )
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request, timeout=20)
    # A browser asks before it sends JSON to another origin, and gets no leave.
    request = urllib.request.Request(
        server.url + "/sandbox/creatures", method="OPTIONS", headers={"Origin": "http://else.where"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_unknown_stream_is_404_with_those_that_there_are(server):
    status, problem = post(server, "/sandbox/fish", '{"n": 1}')
    assert (status, problem["code"]) == (404, "unknown-stream")
    assert "creatures" in problem["detail"]


def test_only_an_open_sandbox_takes_documents(start_server, sandbox, database, tmp_path):
    mongo = start_server("--mongo", sandbox.uri, "--database", database.name, "--collection", "creatures")
    (tmp_path / "key").write_text("a-secret-that-is-long-enough-for-a-key")
    (tmp_path / "brook.toml").write_text(GUARDED)
    guarded = start_server("--sandbox", "--config", str(tmp_path / "brook.toml"))
    for server in (mongo, guarded):
        assert "sandbox" not in streams(server)
        assert post(server, "/sandbox/creatures", '{"n": 1}')[0] == 404
