"""The page over the server's own https, in a Chromium that trusts the test's certificates alone."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import Browser
from tests.support.certificates import Authority, fingerprint
from tests.support.processes import ServerProcess

ROWS = """JSON.stringify([...document.querySelectorAll(
  '#documents-frame tbody tr:not(.spacer, .left, .deleted)')]
  .map(tr => [...tr.cells].map(cell => cell.textContent))) === JSON.stringify(arguments[0])"""


class Served:
    """A server with https, a certificate that it renews, and a browser that trusts both."""

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder)
        self._issued = {name: authority.issue(name) for name in ("first", "second")}
        self.files = folder / "current.crt", folder / "current.key"
        self.install("first")

    def install(self, name: str) -> None:
        for source, target in zip(self._issued[name], self.files, strict=True):
            shutil.copy(source, target)

    def options(self) -> tuple[str, ...]:
        return ("--tls-cert", str(self.files[0]), "--tls-key", str(self.files[1]))

    def flag(self) -> str:
        trusted = ",".join(fingerprint(certificate) for certificate, _ in self._issued.values())
        return f"--ignore-certificate-errors-spki-list={trusted}"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return Served(tmp_path_factory.mktemp("certificates"))


# The name says to the tests' settings that this needs a browser.
@pytest.fixture(scope="module")
def chromium(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("chromium"), served.flag())
    yield browser
    browser.driver.quit()


@pytest.fixture
def server(served: Served, sandbox, database, start_server) -> ServerProcess:
    database.creatures.insert_one({"_id": 1, "type": "newt"})
    return start_server("--mongo", sandbox.uri, "--database", database.name, *served.options())


def test_documents_are_shown_and_changes_arrive(chromium, server, database):
    chromium.log()
    chromium.open(server.url)
    assert server.url.startswith("https://")
    chromium.wait(ROWS, [["1", "newt"]])
    assert chromium.text("state") == "Live"
    database.creatures.insert_one({"_id": 2, "type": "crawdad"})
    chromium.wait(ROWS, [["2", "crawdad"], ["1", "newt"]])
    database.creatures.update_one({"_id": 1}, {"$set": {"type": "otter"}})
    database.creatures.delete_one({"_id": 2})
    chromium.wait(ROWS, [["1", "otter"]])
    assert chromium.run("return window.isSecureContext")
    assert chromium.log() == []


def test_events_are_shown_as_they_arrive(chromium, server, database):
    chromium.open(server.url + "?view=events")
    chromium.wait_for_state("live")
    database.creatures.insert_one({"_id": 3, "type": "heron"})
    assert "heron" in chromium.wait_for_items(1)[-1]


def test_stream_goes_on_and_the_page_loads_again_after_a_renewal(chromium, served, server, database):
    chromium.open(server.url)
    chromium.wait(ROWS, [["1", "newt"]])
    chromium.run("window.isTheSamePage = true")
    served.install("second")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("new connections get the certificate")
    database.creatures.insert_one({"_id": 2, "type": "crawdad"})
    chromium.wait(ROWS, [["2", "crawdad"], ["1", "newt"]])
    assert chromium.run("return window.isTheSamePage")
    chromium.open(server.url)
    chromium.wait(ROWS, [["2", "crawdad"], ["1", "newt"]])


ASK = """
const answer = await fetch("/stream", {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: "x".repeat(arguments[0]),
});
return [answer.status, (await answer.json()).code];
"""


@pytest.mark.parametrize("size", [65 * 1024, 2**20])
def test_page_reads_the_refusal_of_a_large_body(size, chromium, server):
    chromium.open(server.url)
    assert [chromium.run(ASK, size) for _ in range(10)] == [[413, "body-too-large"]] * 10


def test_bundle_of_the_client_shares_one_encrypted_connection(chromium, server, database):
    chromium.open(server.url, policy=False)
    script = """
    const { Brook } = await import("/static/brook.js");
    const brook = new Brook("/", { bundle: true });
    window.sets = ["newt", "otter"].map((type) => brook.live("creatures", { filter: { type } }));
    for (const set of window.sets) set.subscribe(() => {});
    """
    chromium.run(script)
    shown: Any = "JSON.stringify(window.sets.map((set) => set.documents?.map((one) => one._id)))"
    chromium.wait(f"{shown} === '[[1],[]]'")
    database.creatures.update_one({"_id": 1}, {"$set": {"type": "otter"}})
    chromium.wait(f"{shown} === '[[],[1]]'")
