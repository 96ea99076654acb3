"""The worked examples of the docs, each run against a real MongoDB: its command says what the page says."""

from __future__ import annotations

import datetime
import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest
from bson import json_util

from tests.support.browser import Browser, chromium_fixture, page_fixture  # noqa: F401 - fixtures
from tests.support.commands import Block, Command, blocks, pattern, replaced
from tests.support.processes import ROOT, ServerProcess

EXAMPLES = ROOT / "docs" / "subscriptions.md"

# What a block can be; whatever else there is would not be run, and could be wrong.
KINDS = {"sh server", "sh", "js", "js setup", "js before", "text", "js browser", "js module"}

# Stands in the docs for a time of which the log still knows.
MORNING = "2026-11-22T06:00:00+01:00"

OPENING = r"(?:retry: 3000\n\n(?:id: t\S+\n\n)?|:\n\n)"


def sections() -> dict[str, list[Block]]:
    """The page's blocks by the heading above them."""
    found: dict[str, list[Block]] = {}
    heading = ""
    for line in re.findall(r"^## .*$|^```.*\n(?:.*\n)*?```$", EXAMPLES.read_text(), re.M):
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        else:
            first, _, rest = line.partition("\n")
            found.setdefault(heading, []).append(Block(first.removeprefix("```"), rest.removesuffix("```")))
    return found


SECTIONS = sections()
WITH_COMMANDS = [name for name, parts in SECTIONS.items() if any(part.info == "sh" for part in parts)]

# What mongosh writes as a call, as Extended JSON.
_CALLS = {"ObjectId": "$oid", "ISODate": "$date", "NumberDecimal": "$numberDecimal"}


def run_in_mongosh(line: str, database: Any) -> None:
    """Do what a line for mongosh says: `db.orders.insertOne({...}, {...})`, or one about the database."""
    match = re.fullmatch(r"db\.(?:(\w+)\.)?(\w+)\((.*)\)", line)
    assert match, f"only simple lines can be run, not {line}"
    collection, method, text = match.groups()
    for call, key in _CALLS.items():
        text = re.sub(rf'{call}\(("[^"]*")\)', rf'{{"{key}": \1}}', text)
    arguments = json_util.loads("[" + re.sub(r"([{,] *)([$\w]+):", r'\1"\2":', text) + "]")
    match method:
        case "createCollection":
            database.create_collection(arguments[0], **arguments[1])
        case "runCommand":
            database.command(arguments[0])
        case _:
            name = re.sub(r"[A-Z]", lambda letter: "_" + letter[0].lower(), method)
            getattr(database[collection], name)(*arguments)


class Shop:
    """The server of the examples, on a database of the test's own in place of `shop`."""

    def __init__(self, database: Any, server: ServerProcess) -> None:
        self.server = server
        self._database = database
        self._began = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"

    def here(self, text: str) -> str:
        """What the page says of its own shop, said of this one."""
        text = text.replace("localhost:3333", f"127.0.0.1:{self.server.port}").replace(MORNING, self._began)
        return text.replace("shop.", f"{self._database.name}.")

    def write(self, block: Block) -> None:
        """Do what a block for mongosh says; return when all of it has been sent to those who follow."""
        lines = block.text.splitlines()
        with Command(f"curl -sN '{self.server.url}/stream?format=envelope'") as witness:
            witness.until(OPENING)
            for count, line in enumerate(lines, start=1):
                run_in_mongosh(line, self._database)
                if block.info != "js setup":
                    # One after the other: an update shows its document as it is when it is looked up.
                    witness.until(rf"(?s)(?:.*?\ndata: [^\n]*\n\n){{{count}}}")


@pytest.fixture
def shop(sandbox, database, start_server) -> Shop:
    (command,) = [part.text for parts in SECTIONS.values() for part in parts if part.info == "sh server"]
    words = replaced(
        command, ("mongodb://localhost:27017", shlex.quote(sandbox.uri)), ("shop", database.name)
    )
    program, *arguments = shlex.split(words)
    assert program == "babbling-brook"
    return Shop(database, start_server(*arguments))


def test_every_block_is_of_a_kind_that_is_run():
    parts = [part for parts in SECTIONS.values() for part in parts]
    assert {part.info for part in parts} == KINDS
    assert len(parts) == len(blocks(EXAMPLES))
    assert len(WITH_COMMANDS) == 11


@pytest.mark.parametrize("section", WITH_COMMANDS)
def test_command_says_what_the_page_says(shop, section):
    command = ""
    writes: list[Block] = []
    for part in SECTIONS[section]:
        match part.info:
            case "js setup" | "js before":
                shop.write(part)
            case "sh":
                assert len(part.text.splitlines()) == 1
                command, writes = part.text, []
            case "js":
                writes.append(part)
            case "text":
                assert command, "an answer without a question"
                check(shop, command, writes, part.text)
                command = ""
            case kind:
                raise AssertionError(f"{kind} has no place in an example with a command")
    assert not command, "a question without an answer"


def check(shop: Shop, command: str, writes: list[Block], expected: str) -> None:
    """The command says this and, of what was written, nothing more."""
    with Command(shop.here(command)) as running:
        if writes:
            running.until(OPENING)
        for block in writes:
            shop.write(block)
        # A first ellipsis stands for the opening alone, so that nothing unexpected hides in it.
        rest = expected.removeprefix("…\n")
        opening = OPENING if rest != expected else ""
        running.until(opening + pattern(shop.here(rest)) + r"\s*$")


@pytest.fixture
def browser_in_shop(shop, page) -> Callable[[str], Browser]:
    """Runs a script of the docs in a page of the server's own, which holds what `put` is given."""

    def run(script: str) -> Browser:
        page.open(shop.server.url + "/healthz", policy=False)
        page.run(
            """
            window.held = {}, window.told = [];
            window.put = (doc) => { held[doc._id] = doc };
            window.remove = (id) => { delete held[id] };
            window.report = (...words) => told.push(words.join());
            const script = document.createElement("script");
            script.type = "module";
            script.textContent = `${arguments[0]}\\nwindow.orders = orders;`;
            document.head.append(script);
            """,
            shop.here(script),
        )
        page.wait("window.orders")
        return page

    return run


def script(kind: str) -> str:
    (block,) = [part for part in SECTIONS["In the browser"] if part.info == kind]
    return block.text


def test_event_source_holds_what_was_asked_for(browser_in_shop, database):
    page = browser_in_shop(script("js browser"))
    page.wait("orders.readyState === EventSource.OPEN")
    database.orders.insert_many([{"_id": "b", "customer": "bob"}, {"_id": "a", "customer": "ada", "n": 1}])
    page.wait("held.a")
    database.orders.update_one({"_id": "a"}, {"$set": {"status": "paid"}})
    page.wait("held.a.status")
    assert page.run("return held") == {"a": {"_id": "a", "status": "paid"}}
    database.orders.replace_one({"_id": "b"}, {"customer": "ada", "status": "new"})
    page.wait("held.b")
    page.run("held.b = 'a copy that a reload throws away'")
    database.orders.drop()
    page.wait("window.held === undefined")


def test_event_source_hears_of_deletes_where_there_are_pre_images(browser_in_shop, database):
    database.create_collection("orders", changeStreamPreAndPostImages={"enabled": True})
    page = browser_in_shop(script("js browser"))
    page.wait("orders.readyState === EventSource.OPEN")
    database.orders.insert_many([{"_id": "a", "customer": "ada"}, {"_id": "b", "customer": "ada"}])
    page.wait("held.b")
    database.orders.delete_one({"_id": "a"})
    page.wait("!held.a")
    assert list(page.run("return held")) == ["b"]


def test_brook_module_holds_it_and_reports(browser_in_shop, database):
    database.create_collection("orders", changeStreamPreAndPostImages={"enabled": True})
    page = browser_in_shop(script("js module"))
    page.wait("told[0]")
    database.orders.insert_many([{"_id": "b", "customer": "bob"}, {"_id": "a", "customer": "ada"}])
    page.wait("held.a")
    assert page.run("return held") == {"a": {"_id": "a", "customer": "ada"}}
    database.orders.delete_one({"_id": "a"})
    page.wait("!held.a")
    assert page.run("return told") == ["live,"]
    database.orders.insert_one({"_id": "c", "customer": "ada"})
    page.wait("held.c")
    database.orders.drop()
    page.wait("window.held === undefined")


def test_brook_module_says_why_it_is_refused(browser_in_shop):
    page = browser_in_shop(replaced(script("js module"), ('customer: "ada"', '$where: "1"')))
    page.wait("orders.state === 'ended'")
    assert page.run("return told.at(-1)") == "ended,unknown operator $where at filter"
