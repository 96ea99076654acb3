"""The examples with a login, run as their READMEs say, and used in Chromium."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest

from tests.support.browser import WAIT_SECONDS, Browser, chromium_fixture, page_fixture  # noqa: F401 - fixtures
from tests.support.examples import Example

EXAMPLES = {"login": {"TOKEN_SECONDS": "2"}, "sessions": {"CLAIMS_SECONDS": "2"}}
NOTES = "[...document.querySelectorAll('#notes li')].map((li) => li.textContent)"


@pytest.fixture(scope="module", params=EXAMPLES)
def example(request, sandbox, tmp_path_factory) -> Iterator[Example]:
    folder: Path = tmp_path_factory.mktemp("example")
    with Example(request.param, folder, sandbox.uri, **EXAMPLES[request.param]) as example:
        yield example


@pytest.fixture
def notes(sandbox, example) -> Iterator[Any]:
    with pymongo.MongoClient[Any](sandbox.uri) as client:
        found = client[f"{example.folder.name}_example"].notes
        found.delete_many({})
        yield found


@pytest.fixture
def visitor(page, example, notes) -> Browser:
    """The browser at the example's page, with no cookie."""
    page.open(example.url)
    page.driver.delete_all_cookies()
    page.open(example.url)
    return page


def log_in(page: Browser, name: str, password: str) -> None:
    page.wait("document.getElementById('login').onsubmit !== null")
    for field, text in (("name", name), ("password", password)):
        page.driver.find_element("css selector", f"#login [name={field}]").send_keys(text)
    page.run("document.getElementById('login').requestSubmit()")


def write(page: Browser, text: str) -> None:
    page.driver.find_element("css selector", "#write [name=text]").send_keys(text)
    page.run("document.getElementById('write').requestSubmit()")


def shows(page: Browser, *texts: str) -> None:
    page.wait(f"JSON.stringify({NOTES}) === JSON.stringify(arguments[0])", list(texts))


def renewed(example: Example) -> None:
    """Wait until the application was asked twice more for the user: for a cookie, or by the server."""
    seen = example.asked()
    deadline = time.monotonic() + WAIT_SECONDS
    while example.asked() < seen + 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_each_user_sees_the_own_notes_only(visitor, notes):
    notes.insert_one({"owner": "bob", "text": "of bob"})
    log_in(visitor, "ada", "wrong")
    visitor.wait("document.getElementById('why').textContent.includes('no such user')")
    visitor.run("document.getElementById('login').reset()")
    log_in(visitor, "ada", "crawdad")
    visitor.wait("!document.querySelector('main').hidden")
    write(visitor, "of ada")
    shows(visitor, "of ada")
    visitor.run("document.getElementById('logout').click()")
    visitor.wait("document.querySelector('main').hidden")
    log_in(visitor, "bob", "heron")
    shows(visitor, "of bob")
    write(visitor, "of bob, too")
    shows(visitor, "of bob", "of bob, too")


def test_two_users_at_once_see_each_their_own(visitor, notes, example, tmp_path):
    other = Browser(tmp_path / "other")
    try:
        other.open(example.url)
        for page, name, password in ((visitor, "ada", "crawdad"), (other, "bob", "heron")):
            log_in(page, name, password)
            page.wait("document.getElementById('state').textContent === 'live'")
        for number in range(3):
            write(visitor, f"of ada {number}")
            write(other, f"of bob {number}")
            # The next note is written when the form has sent this one.
            shows(visitor, *(f"of ada {n}" for n in range(number + 1)))
            shows(other, *(f"of bob {n}" for n in range(number + 1)))
        # A note that changes hands leaves one page and comes to the other.
        notes.update_one({"text": "of ada 1"}, {"$set": {"owner": "bob"}})
        shows(visitor, "of ada 0", "of ada 2")
        other.wait(f"{NOTES}.toSorted().join() === 'of ada 1,of bob 0,of bob 1,of bob 2'")
    finally:
        other.driver.quit()


def test_stream_goes_on_over_renewals_and_survives_a_reload(visitor, notes, example):
    log_in(visitor, "ada", "crawdad")
    visitor.wait("document.getElementById('state').textContent === 'live'")
    visitor.driver.refresh()
    visitor.wait("document.getElementById('state').textContent === 'live'")
    notes.insert_one({"owner": "ada", "text": "one"})
    shows(visitor, "one")
    renewed(example)
    notes.insert_one({"owner": "ada", "text": "two"})
    shows(visitor, "one", "two")
    assert visitor.run("return document.querySelector('main').hidden") is False


def test_log_out_ends_the_stream_of_every_tab_at_the_next_renewal(visitor, notes, example):
    log_in(visitor, "ada", "crawdad")
    shows(visitor)
    notes.insert_one({"owner": "ada", "text": "one"})
    shows(visitor, "one")
    first = visitor.driver.current_window_handle
    visitor.driver.switch_to.new_window("tab")
    visitor.open(example.url)
    shows(visitor, "one")
    visitor.run("document.getElementById('logout').click()")
    visitor.driver.close()
    visitor.driver.switch_to.window(first)
    visitor.wait("document.querySelector('main').hidden")
    assert visitor.run("return document.getElementById('why').textContent")
    notes.insert_one({"owner": "ada", "text": "two"})
    shows(visitor)


def test_token_is_in_no_reach_of_a_script(visitor):
    log_in(visitor, "ada", "crawdad")
    visitor.wait("document.getElementById('state').textContent === 'live'")
    assert visitor.run("return document.cookie") == ""
    assert visitor.driver.get_cookies()


@pytest.mark.parametrize("example", ["sessions"], indirect=True)
def test_user_whom_the_application_refuses_is_told(visitor):
    log_in(visitor, "eve", "shrike")
    visitor.wait("document.getElementById('why').textContent.includes('does not let this client in')")
