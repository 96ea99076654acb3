"""The client library against a server with access rules: tokens expire, and what is held stays true."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo import WriteConcern

from tests.support.browser import Browser, chromium_fixture, page_fixture  # noqa: F401 - fixtures
from tests.support.guarded import SECRET
from tests.support.node import Follower
from tests.support.processes import ServerProcess

BUNDLES = [False, True]

CONFIGURATION = """
retry_ms = 50
heartbeat_seconds = 1

[access]
algorithms = ["HS256"]
key_file = "jwt.key"

[streams.mine]
namespace = "renewed.notes"
filter = { owner = "$claims.sub" }

[streams.all]
namespace = "renewed.notes"
require = { role = "clerk" }
"""

# A tab with a token for two seconds, which it makes itself.
OPEN_TAB = """
    const [secret, done] = arguments;
    const { Brook } = await import("/static/brook.js");
    const bytes = (text) => new TextEncoder().encode(text);
    const url = (text) => text.replace(/[+]/g, "-").replace(/[/]/g, "_").replace(/=/g, "");
    const encoded = (binary) => url(btoa(String.fromCharCode(...binary)));
    window.asked = 0;
    window.states = [];
    window.draws = [];
    async function token() {
      asked += 1;
      const content = { sub: "ada", exp: Date.now() / 1_000 + 2 };
      const text = [{ alg: "HS256" }, content].map((part) => encoded(bytes(JSON.stringify(part)))).join(".");
      const algorithm = { name: "HMAC", hash: "SHA-256" };
      const key = await crypto.subtle.importKey("raw", bytes(secret), algorithm, false, ["sign"]);
      return `${text}.${encoded(new Uint8Array(await crypto.subtle.sign("HMAC", key, bytes(text))))}`;
    }
    window.brook = new Brook("/", { token, share: "ada" });
    brook.addEventListener("statechange", () => states.push(brook.state));
    window.live = brook.live("mine");
    live.subscribe((documents) => { draws.push(documents.map(({ _id }) => _id)); done(); });
"""


@pytest.fixture(scope="module")
def guarded(sandbox, tmp_path_factory) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("guarded")
    (folder / "jwt.key").write_text(SECRET)
    (folder / "brook.toml").write_text(CONFIGURATION)
    server = ServerProcess("--mongo", sandbox.uri, "--config", str(folder / "brook.toml"))
    yield server.start()
    server.kill()


@pytest.fixture
def notes(sandbox) -> Iterator[Any]:
    """The collection, empty."""
    with pymongo.MongoClient[Any](sandbox.uri) as client:
        found = client.renewed.get_collection("notes", write_concern=WriteConcern("majority"))
        found.delete_many({})
        yield found


def login(*tokens: dict[str, Any]) -> dict[str, Any]:
    """The tokens that are given, one after the other, and the last for ever."""
    return {"secret": SECRET, "tokens": tokens}


def made(seconds: float, sub: str = "ada", **more: Any) -> dict[str, Any]:
    return {"claims": {"sub": sub}, "seconds": seconds, **more}


def position(session: Any) -> str:
    """The position of a session's last write."""
    return f"t{session.operation_time.time}.{session.operation_time.inc}"


def numbers(documents: list[dict[str, Any]]) -> list[int]:
    return sorted(document["_id"] for document in documents)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_documents_stay_true_across_renewals(notes, guarded, bundle):
    notes.insert_many([{"_id": -1, "owner": "ada"}, {"_id": -2, "owner": "bob"}])
    with (
        notes.database.client.start_session() as session,
        Follower(guarded.url, "live", "mine", login=login(made(2)), bundle=bundle) as follower,
    ):
        assert numbers(follower.told()[0]) == [-1]
        written = 0
        for renewals in range(1, 3):
            # Also while there is no connection.
            follower.until_state("reconnecting")
            notes.insert_many(
                [{"_id": written + n, "owner": ("ada", "bob")[n % 2]} for n in range(10)], session=session
            )
            notes.delete_one({"_id": written - 2}, session=session)
            written += 10
            follower.until_asked(renewals + 1)
        held = follower.reached(position(session))
        assert numbers(held) == numbers(list(notes.find({"owner": "ada"})))
        shown = -1
        while shown != numbers(held):
            documents, news = follower.told()
            shown = numbers(documents)
            # A bundle is resumed, not begun anew; and nothing is empty in between.
            assert documents
            assert news["changes"] or not bundle
            assert all(document["owner"] == "ada" for document in documents)


@pytest.mark.parametrize("bundle", BUNDLES)
@pytest.mark.parametrize(
    "bad", [made(-5), made(60, key="another-secret-that-is-as-long-as-it-must-be")], ids=["expired", "forged"]
)
def test_refused_token_is_asked_for_once_more(notes, guarded, bundle, bad):
    notes.insert_one({"_id": 1, "owner": "ada"})
    with Follower(guarded.url, "live", "mine", login=login(bad, made(60)), bundle=bundle) as follower:
        assert numbers(follower.told()[0]) == [1]


def test_renewal_that_is_refused_ends_with_the_servers_code(notes, guarded):
    with Follower(guarded.url, "live", "mine", login=login(made(2), made(-5))) as follower:
        follower.until_state("live")
        assert follower.until_state("reconnecting")["code"] == "token-expired"
        assert follower.until_state("ended")["code"] == "token-expired"
        follower.until_asked(3)


@pytest.mark.parametrize(
    ("stream", "tokens", "code"),
    [
        ("all", login(made(60)), "forbidden"),
        ("none", login(made(60)), "unknown-stream"),
        ("mine", None, "unauthenticated"),
        ("mine", login(made(60, sub="")), "forbidden"),
    ],
)
def test_refusal_ends_the_query_with_the_servers_code(guarded, stream, tokens, code):
    with Follower(guarded.url, "live", stream, login=tokens) as follower:
        assert follower.until_state("ended")["code"] == code


def test_changes_are_told_once_across_renewals(notes, guarded):
    with Follower(guarded.url, "changes", "mine", login=login(made(2))) as follower:
        follower.until_state("live")
        for number in range(2):
            notes.insert_one({"_id": number, "owner": "ada"})
            follower.until_state("reconnecting")
        notes.insert_one({"_id": 2, "owner": "ada"})
        assert [follower.told()[0]["id"] for _ in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("bundle", BUNDLES)
def test_token_of_another_reach_brings_its_documents_alone(notes, guarded, bundle):
    notes.insert_many([{"_id": 1, "owner": "ada"}, {"_id": 2, "owner": "bob"}])
    tokens = login(made(2), made(60, sub="bob"))
    with Follower(guarded.url, "live", "mine", login=tokens, bundle=bundle) as follower:
        assert numbers(follower.told()[0]) == [1]
        assert numbers(follower.told()[0]) == [2]


def tab(page: Browser, guarded: ServerProcess) -> str:
    page.driver.switch_to.new_window("tab")
    page.open(guarded.url)
    page.driver.execute_async_script(f"(async (...arguments) => {{{OPEN_TAB}}})(...arguments)", SECRET)
    return str(page.driver.current_window_handle)


def test_leading_tab_asks_for_all_tabs_and_the_next_leader_goes_on(page, notes, guarded):
    empty = page.driver.current_window_handle
    notes.insert_many([{"_id": 1, "owner": "ada"}, {"_id": 2, "owner": "bob"}])
    leader, other = tab(page, guarded), tab(page, guarded)
    page.driver.switch_to.window(leader)
    page.wait("asked >= 3")
    page.driver.switch_to.window(other)
    assert page.run("return asked") == 0
    page.driver.switch_to.window(leader)
    page.driver.close()
    page.driver.switch_to.window(other)
    page.wait("asked >= 2")
    notes.insert_many([{"_id": 3, "owner": "ada"}, {"_id": 4, "owner": "bob"}])
    page.wait("live.documents.length === 2")
    draws, states = page.run("return [draws, states]")
    assert draws == [[1], [1, 3]]
    assert "ended" not in states
    page.driver.close()
    page.driver.switch_to.window(empty)
