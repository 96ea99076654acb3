"""The page and the client library in Firefox, if it is there."""

from __future__ import annotations

import time
from collections.abc import Iterator

import jwt
import pytest

from tests.support.firefox import Firefox, firefox_fixture  # noqa: F401 - a fixture
from tests.support.guarded import SECRET
from tests.support.node import PondServer

IDS = """[...document.querySelectorAll('#documents-frame tbody tr:not(.spacer, .left, .deleted)')]
  .map((tr) => tr.cells[0].textContent).join()"""

CONFIGURATION = """
heartbeat_seconds = 1
retry_ms = 50

[access]
algorithms = ["HS256"]
key_file = "jwt.key"

[streams.mine]
namespace = "{database}.notes"
filter = {{ owner = "$claims.sub" }}
"""

FOLLOW = """
    window.draws = [];
    import("/static/brook.js").then(({ Brook }) => {
      window.brook = new Brook("/");
      window.live = brook.live(arguments[0]);
      live.subscribe((documents) => draws.push(documents.map(({ _id }) => _id).join()));
    });
"""


@pytest.fixture
def pond() -> Iterator[PondServer]:
    with PondServer() as server:
        yield server


def token(seconds: float = 600) -> str:
    return jwt.encode({"sub": "ada", "exp": time.time() + seconds}, SECRET, "HS256")


def test_page_shows_the_documents_and_comes_back_after_a_restart(firefox, sandbox, database, start_server):
    server = start_server("--mongo", sandbox.uri, "--database", database.name, "--retry-ms", "50")
    database.creatures.insert_one({"_id": 1})
    firefox.open(server.url)
    firefox.wait(f"{IDS} === '1'")
    database.creatures.insert_one({"_id": 2})
    firefox.wait(f"{IDS} === '2,1'")
    server.kill()
    firefox.wait("document.documentElement.dataset.state === 'reconnecting'")
    database.creatures.delete_one({"_id": 1})
    server.start()
    firefox.wait(f"{IDS} === '2' && document.documentElement.dataset.state === 'live'")


def test_page_asks_for_a_token_and_for_the_next_one(firefox, sandbox, database, start_server, tmp_path):
    (tmp_path / "jwt.key").write_text(SECRET)
    (tmp_path / "brook.toml").write_text(CONFIGURATION.format(database=database.name))
    server = start_server("--mongo", sandbox.uri, "--config", str(tmp_path / "brook.toml"))
    database.notes.insert_many([{"_id": 1, "owner": "ada"}, {"_id": 2, "owner": "bob"}])
    firefox.open(server.url)
    for given, shown in ((token(2), "1"), (token(), "1,3")):
        firefox.wait("!document.getElementById('login').hidden")
        firefox.run(
            "document.getElementById('token').value = arguments[0];"
            "document.getElementById('login').requestSubmit()",
            given,
        )
        firefox.wait("document.getElementById('login').hidden")
        firefox.wait(f"{IDS}.split(',').sort().join() === arguments[0]", shown)
        if shown == "1":
            database.notes.insert_one({"_id": 3, "owner": "ada"})


def test_tabs_share_a_connection_and_the_next_leader_goes_on(firefox, pond):
    pond.write(("ponds", 1, {}), ("rivers", 2, {}))
    tabs = {}
    for stream in ("ponds", "rivers"):
        tabs[stream] = firefox.new_tab()
        firefox.open(pond.url)
        firefox.run(FOLLOW, stream)
        firefox.wait("window.live && live.documents")
    assert pond.statistics()["connections"] == 1
    firefox.go_to(tabs["ponds"])
    firefox.close_tab()
    firefox.go_to(tabs["rivers"])
    pond.write(("rivers", 3, {}))
    firefox.wait("draws.at(-1) === '2,3'")
    assert firefox.run("return draws") == ["2", "2,3"]
    firefox.go_to(firefox.close_tab()[0])
