"""The tutorial, built from its text: MongoDB, server and backend are real, and so is the browser."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import Browser, chromium_fixture, listens, page_fixture  # noqa: F401
from tests.support.commands import SECONDS, blocks, replaced
from tests.support.processes import ROOT, ServerProcess

PAGE = ROOT / "docs" / "tutorial.md"
TUTORIAL = {block.info: block.text for block in blocks(PAGE)}

# A write that matches nothing, and is waited for.
NOTHING = """
    const [url, done] = arguments;
    const { Brook } = await import(url + "static/brook.js");
    const brook = new Brook(url);
    await new Promise((shown) => brook.live("todos").subscribe(shown));
    const path = "/todos/000000000000000000000000/done";
    const headers = { "Content-Type": "application/json" };
    const { position } = await (await fetch(path, { method: "POST", headers, body: "{}" })).json();
    await brook.reached(position);
    done(position);
"""


def arguments(info: str) -> list[str]:
    """The words of a block's only line."""
    [line] = TUTORIAL[info].splitlines()
    return shlex.split(line)


@pytest.fixture
def brook(sandbox, database, start_server) -> ServerProcess:
    program, *options = arguments("sh server")
    assert program == "babbling-brook"
    at = options.index("mongodb://localhost:27017/todo")
    options[at] = sandbox.uri.replace("/?", f"/{database.name}?")
    server: ServerProcess = start_server(*options)
    return server


@pytest.fixture
def backend(sandbox, database, brook, tmp_path: Path) -> Iterator[str]:
    """The address of the backend, which has the page."""
    python = replaced(
        TUTORIAL["python"],
        ("mongodb://localhost:27017/?replicaSet=rs0", sandbox.uri),
        ("client.todo.", f'client["{database.name}"].'),
    )
    (tmp_path / "app.py").write_text(python)
    (tmp_path / "page.html").write_text(TUTORIAL["html"].replace("http://localhost:3333", brook.url))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", *arguments("sh backend")]
    command[command.index("5000")] = str(port)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLASK_")}
    log = (tmp_path / "log").open("w")
    with log, subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log) as program:
        try:
            deadline = time.monotonic() + SECONDS
            while not listens(port):
                assert program.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port}/"
        finally:
            program.terminate()


def add(page: Browser, text: str) -> None:
    page.run("document.forms[0].text.value = arguments[0]; document.forms[0].requestSubmit()", text)


def shown(page: Browser, what: str) -> list[str]:
    found: list[str] = page.run(
        "return [...document.querySelectorAll(arguments[0])].map((li) => li.firstChild.textContent)", what
    )
    return found


def wait_until_shown(page: Browser, what: str, *texts: str) -> None:
    page.wait(
        "JSON.stringify([...document.querySelectorAll(arguments[0])].map((li) => li.firstChild.textContent))"
        " === JSON.stringify(arguments[1])",
        what, list(texts),
    )  # fmt: skip


OPEN, PENDING = "#open li", "#pending li"


def test_list_follows_the_page_the_backend_and_everybody_else(page, backend, database):
    page.open(backend)
    add(page, "buy bread")
    wait_until_shown(page, OPEN, "buy bread")
    wait_until_shown(page, PENDING)
    assert '`db.todos.insertOne({text: "written in mongosh", done: false})`' in PAGE.read_text()
    database.todos.insert_one({"text": "written in mongosh", "done": False})
    wait_until_shown(page, OPEN, "buy bread", "written in mongosh")
    page.run("document.querySelector('#open button').click()")
    wait_until_shown(page, OPEN, "written in mongosh")
    page.wait("document.querySelector('#done').textContent === '1'")
    assert database.todos.find_one({"done": True})["text"] == "buy bread"


def test_own_write_stays_grey_until_the_list_shows_it_also_over_a_restart(page, backend, brook, database):
    page.open(backend)
    add(page, "first")
    wait_until_shown(page, OPEN, "first")
    wait_until_shown(page, PENDING)
    page.run("window.notReloaded = true")
    brook.kill()
    page.wait("document.querySelector('#state').textContent === 'reconnecting'")
    add(page, "while it is away")
    database.todos.insert_one({"text": "by another", "done": False})
    wait_until_shown(page, PENDING, "while it is away")
    assert shown(page, OPEN) == ["first"]
    brook.start()
    wait_until_shown(page, PENDING)
    # Gone from the one list only when it is in the other: never in neither.
    assert shown(page, OPEN) == ["by another", "first", "while it is away"]
    assert page.run("return window.notReloaded")


def test_write_that_changed_nothing_is_reached_too(page, backend, brook):
    """It has no event of its own, and its position arrives all the same."""
    page.open(backend)
    position = page.driver.execute_async_script(
        f"(async (...arguments) => {{{NOTHING}}})(...arguments)", brook.url + "/"
    )
    assert re.fullmatch(r"t\d+\.\d+", position)
