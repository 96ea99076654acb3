"""The page before a server with access rules, in Chromium: it asks for a token, and for the next one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pymongo
import pytest
from pymongo import WriteConcern
from selenium.webdriver.common.keys import Keys

from tests.support.browser import Browser, chromium_fixture, page_fixture  # noqa: F401 - fixtures
from tests.support.guarded import SECRET
from tests.support.looks import faint, too_wide
from tests.support.processes import ServerProcess

CONFIGURATION = """
heartbeat_seconds = 1
retry_ms = 50

[access]
algorithms = ["HS256"]
key_file = "jwt.key"
{access}

[streams.mine]
namespace = "explored_login.notes"
filter = {{ owner = "$claims.sub" }}

[streams.staff]
namespace = "explored_login.notes"
require = {{ role = "clerk" }}
{streams}
"""
NEWS = """
[streams.news]
namespace = "explored_login.notes"
public = true
filter = { owner = "everybody" }
"""

IDS = """[...document.querySelectorAll('#documents-frame tbody tr:not(.spacer, .left, .deleted)')]
  .map((tr) => tr.cells[0].textContent)"""
EVENTS = "?view=events&stream=mine"


def token(sub: str, seconds: float = 600, **claims: Any) -> str:
    return jwt.encode({"sub": sub, "exp": time.time() + seconds, **claims}, SECRET, "HS256")


@pytest.fixture(scope="module")
def start(sandbox, tmp_path_factory) -> Iterator[Any]:
    servers = []

    def start(streams: str = "", access: str = "") -> ServerProcess:
        folder: Path = tmp_path_factory.mktemp("guarded")
        (folder / "jwt.key").write_text(SECRET)
        (folder / "brook.toml").write_text(CONFIGURATION.format(streams=streams, access=access))
        server = ServerProcess("--mongo", sandbox.uri, "--config", str(folder / "brook.toml"))
        servers.append(server)
        return server.start()

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="module")
def server(start) -> ServerProcess:
    return start()


@pytest.fixture
def notes(sandbox) -> Iterator[Any]:
    with pymongo.MongoClient[Any](sandbox.uri) as client:
        found = client.explored_login.get_collection("notes", write_concern=WriteConcern("majority"))
        found.delete_many({})
        found.insert_many([{"_id": 1, "owner": "ada"}, {"_id": 2, "owner": "bob"}])
        yield found


def asked(page: Browser) -> None:
    """Wait for the form. The cursor is in it, or the user is busy elsewhere."""
    page.wait("!document.getElementById('login').hidden")


def log_in(page: Browser, text: str) -> None:
    field = page.driver.find_element("id", "token")
    field.clear()
    field.send_keys(text, Keys.ENTER)


def shows(page: Browser, *ids: str) -> None:
    page.wait(f"JSON.stringify({IDS}) === JSON.stringify(arguments[0])", list(ids))


def test_page_asks_for_a_token_and_shows_what_it_opens(page, server, notes):
    page.open(server.url)
    asked(page)
    assert page.run("return document.activeElement.id") == "token"
    assert page.text("session-state") == "Not logged in"
    log_in(page, token("ada"))
    shows(page, "1")
    assert page.run("return document.getElementById('login').hidden")
    assert page.text("session-state").startswith("Logged in until ")
    assert page.run("return document.getElementById('token').value") == ""
    notes.insert_many([{"_id": 3, "owner": "ada"}, {"_id": 4, "owner": "bob"}])
    shows(page, "3", "1")
    page.wait_for_state("live")


def test_token_is_nowhere_but_in_the_memory_of_the_page(page, server, notes):
    page.open(server.url)
    asked(page)
    secret = token("ada")
    log_in(page, secret)
    shows(page, "1")
    kept = page.run(
        """
        return JSON.stringify([location.href, document.documentElement.outerHTML, document.cookie,
          localStorage, sessionStorage, history.state,
          performance.getEntriesByType("resource").map(({ name }) => name)]);
        """
    )
    assert "stream" in kept
    assert secret not in kept
    for kind, placeholder in (
        ("curl", '-H "Authorization: Bearer $TOKEN"'),
        ("EventSource", "// An EventSource cannot send a token"),
        ("brook.js", '{ token: async () => "TOKEN" }'),
    ):
        page.run(
            "const s = document.querySelector('#as-code select'); s.value = arguments[0];"
            "s.dispatchEvent(new Event('change'))",
            kind,
        )
        assert placeholder in page.run("return document.querySelector('#as-code pre').textContent")
    page.driver.refresh()
    asked(page)
    assert page.run(f"return {IDS}") == []


def test_refused_tokens_are_told_and_another_can_be_given(page, server, notes):
    page.open(server.url)
    asked(page)
    why = "document.getElementById('login-why').textContent"
    for text, words in (("x.y.z", "token"), (token("ada", -5), "expired"), ("", "Paste"), ("ä €", "tried")):
        log_in(page, text)
        page.wait(f"{why}.includes(arguments[0])", words)
        assert page.run("return document.activeElement.id") == "token"
    log_in(page, token("ada"))
    shows(page, "1")


def test_page_asks_again_when_the_token_expires_and_goes_on(page, server, notes):
    page.open(server.url)
    asked(page)
    log_in(page, token("ada", 3))
    shows(page, "1")
    asked(page)
    page.wait("document.getElementById('login-why').textContent.includes('expired')")
    assert page.text("session-state") == "Not logged in"
    # What was there stays, and what comes meanwhile follows.
    assert page.run(f"return {IDS}") == ["1"]
    notes.insert_one({"_id": 3, "owner": "ada"})
    log_in(page, token("ada"))
    shows(page, "3", "1")
    page.wait_for_state("live")


def test_another_token_opens_other_streams_and_other_documents(page, server, notes):
    page.open(server.url + "?view=documents&stream=mine")
    asked(page)
    log_in(page, token("ada"))
    shows(page, "1")
    page.run("document.getElementById('log-in').click()")
    log_in(page, token("bob", role="clerk"))
    shows(page, "2")
    options = "[...document.querySelector('#query [name=stream]').options].map((one) => one.value).join()"
    page.wait(f"{options} === 'mine,staff'")


def test_public_streams_are_shown_and_a_login_is_offered(page, start, notes):
    notes.insert_one({"_id": 5, "owner": "everybody"})
    page.open(start(NEWS).url)
    shows(page, "5")
    assert page.run("return document.getElementById('login').hidden")
    page.driver.find_element("id", "log-in").send_keys(Keys.ENTER)
    assert page.run("return document.activeElement.id") == "token"
    log_in(page, token("ada"))
    page.wait("document.querySelector('#query [name=stream]').options.length === 2")
    page.driver.find_element("css selector", "#query [name=stream]").send_keys("mine")
    shows(page, "1")


def test_name_can_be_typed_where_the_list_is_refused(page, start, notes):
    """By an application that does not answer, to clients without a token."""
    server = start(access='authorize_url = "http://127.0.0.1:9/"')
    page.open(server.url + "/healthz")
    page.driver.add_cookie({"name": "session", "value": "x"})
    page.open(server.url)
    field = "document.querySelector('#query input[name=stream]')"
    page.wait(f"document.documentElement.dataset.view === 'documents' && {field}")
    page.driver.find_element("css selector", "#query [name=stream]").send_keys("mine", Keys.ENTER)
    page.wait("document.getElementById('why').textContent.includes('application')")
    page.driver.delete_all_cookies()


def test_events_ask_for_a_token_too_and_again_when_it_expires(page, server, notes):
    page.open(server.url + EVENTS)
    asked(page)
    log_in(page, token("ada", 3))
    page.wait_for_state("live")
    notes.insert_many([{"_id": 6, "owner": "bob"}, {"_id": 7, "owner": "ada"}])
    page.wait_for_items(1)
    asked(page)
    notes.insert_one({"_id": 8, "owner": "ada"})
    log_in(page, token("ada"))
    items = page.wait_for_items(2)
    assert [item.split(":")[2].split(",")[0] for item in items] == ["7", "8"]
    page.run("document.getElementById('choose').open = true")
    page.wait("document.getElementById('command').textContent.endsWith('Bearer $TOKEN\"')")


def test_events_of_no_stream_offer_a_login(page, server, notes):
    page.open(server.url + "?view=events")
    page.wait_for_state("ended")
    page.wait("!document.getElementById('session').hidden")


def test_server_without_access_rules_offers_no_login(page, start_server, sandbox, database):
    page.open(start_server("--mongo", sandbox.uri, "--database", database.name).url)
    page.wait_for_state("live")
    assert page.run(
        "return document.getElementById('session').hidden && document.getElementById('login').hidden"
    )


@pytest.mark.parametrize("view", ["", EVENTS])
def test_login_fits_a_phone_and_is_legible_in_light_and_dark(page, server, notes, view):
    page.open(server.url + view)
    asked(page)
    log_in(page, "x.y.z")
    page.wait("document.getElementById('login-why').textContent")
    label = "return document.getElementById('token').labels[0].textContent"
    assert page.run(label) == "Token"
    for scheme in ("light", "dark"):
        page.emulate(scheme=scheme, width=320)
        wide = too_wide(page)
        assert [one for one in wide if one.split()[0] in ("html", "body", "header", "form", "main")] == []
        assert faint(page) == []
