"""The page, read by a real Chromium: what arrives is shown, and nothing is lost on the way."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pymongo
import pytest
from bson import ObjectId
from pymongo import WriteConcern
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.support.browser import (  # noqa: F401 - fixtures
    Browser,
    Relay,
    ScriptedServer,
    chromium_fixture,
    json_of,
    nginx_fixture,
    page_fixture,
)
from tests.support.commands import Command
from tests.support.looks import faint, too_wide
from tests.support.processes import ROOT, ServerProcess

STATIC = ROOT / "static"

# The address of the events, for a server that has documents to show.
EVENTS = "?view=events"


@pytest.fixture(scope="module")
def shared(sandbox):
    """A server for the tests that leave it as it is, and its collection. Each page starts at now."""
    with pymongo.MongoClient(sandbox.uri) as client:
        creatures = client.pages.get_collection("creatures", write_concern=WriteConcern("majority"))
        names = ("--database", "pages", "--collection", "creatures", "--collection", "herons")
        server = ServerProcess("--mongo", sandbox.uri, *names).start()
        yield server, creatures
        server.kill()
        client.drop_database("pages")


@pytest.fixture
def mongo(sandbox, database, start_server):
    """A server of the test's own, to be killed; its clients come back quickly."""
    return start_server("--mongo", sandbox.uri, "--database", database.name, "--retry-ms", "200")


def opened(page: Browser, address: str) -> None:
    """Load the page at an address, and wait until its stream is open."""
    page.open(address)
    page.wait_for_state("live")


def note_reasons(page: Browser) -> None:
    """Note the reasons that the page gives in `whys`: each may soon be replaced by the next."""
    page.run(
        """
        window.whys = [];
        new MutationObserver(() => whys.push(document.getElementById("why").textContent))
          .observe(document.getElementById("why"), { childList: true });
        """
    )


def json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def numbers(items: list[str]) -> list[int]:
    return [json_of(item)["n"] for item in items]


# -- what is shown -----------------------------------------------------------------------------------


def test_demo_plays_its_three_messages_to_the_page(page, start_server):
    page.open(start_server("--demo").url)
    assert page.wait_for_items(3) == ["message: Sending 1", "message: Sending 2", "message: Sending 3"]
    page.wait_for_state("live")
    assert page.text("state") == "Live"
    assert [page.text(f"{kind}-count") for kind in ("message", "delete", "reset")] == ["3", "0", "0"]
    assert page.text("last-id") == "demo-3"
    tops = page.run("return [...document.querySelectorAll('#events li')].map(li => li.offsetTop)")
    assert tops == sorted(tops, reverse=True), "the newest is not on top"
    # A screen reader is told of them together, not of each one.
    page.wait("/^[23] new events$/.test(document.getElementById('news').textContent)")
    assert page.run("return document.getElementById('news').role") == "status"
    assert page.run("return document.querySelector('[role=log]').ariaLive") == "off"
    assert page.log() == []


def test_change_is_shown_as_its_whole_document_and_a_delete_as_a_delete(page, shared):
    server, creatures = shared
    page.open(server.url + EVENTS)
    page.wait_for_state("live")
    assert page.run("return document.getElementById('empty').checkVisibility()")
    key = {"_id": ObjectId("5bfef740419aeed958bbfa1b")}
    creatures.insert_one({**key, "type": "crawdad"})
    creatures.update_one(key, {"$set": {"size": 3}})
    creatures.replace_one(key, {"type": "newt"})
    page.wait_for_items(3)
    creatures.delete_one(key)
    items = page.wait_for_items(4)
    assert items[0] == 'message: {"_id":"5bfef740419aeed958bbfa1b","type":"crawdad"}'
    # An update shows its document at the end of its batch.
    assert items[1] in (
        'message: {"_id":"5bfef740419aeed958bbfa1b","type":"crawdad","size":3}',
        'message: {"_id":"5bfef740419aeed958bbfa1b","type":"newt"}',
    )
    assert items[2] == 'message: {"_id":"5bfef740419aeed958bbfa1b","type":"newt"}'
    assert items[3] == 'delete: {"_id":"5bfef740419aeed958bbfa1b"}'
    page.wait("document.getElementById('delete-count').textContent === '1'")
    assert page.text("message-count") == "3"
    assert re.fullmatch("t[0-9]+[.][0-9]+-[0-9a-f]{16}", page.text("last-id"))
    labels = "return [...document.querySelectorAll('#events b')].map(b => getComputedStyle(b).color)"
    colours = page.run(labels)
    assert colours[0] == colours[2] != colours[3]
    assert not page.run("return document.getElementById('empty').checkVisibility()")
    assert page.log() == []


def test_markup_in_a_document_is_text_and_nothing_runs(page, shared):
    server, creatures = shared
    page.open(server.url + EVENTS)
    page.wait_for_state("live")
    attacks = [
        "<img src=x onerror=window.ran=1>",
        "<script>window.ran=1</script>",
        "</li></ol><svg onload=window.ran=1>",
        "<a href='javascript:window.ran=1'>x</a>, <style>*{display:none}</style>",
    ]
    for attack in attacks:
        creatures.insert_one({attack: attack})
    items = page.wait_for_items(len(attacks))
    assert [json_of(item)[attack] for item, attack in zip(items, attacks, strict=True)] == attacks
    assert page.run("return [...document.querySelectorAll('#events *')].map(e => e.localName)") == [
        name for part in (1, 1, 1, 3) for name in ("li", "b", "wbr", *["wbr"] * part)
    ], "there is more in the list than items, labels and places to break a line"
    assert page.run("return window.ran") is None
    assert page.log() == []


def test_inline_script_would_be_refused(page, start_server):
    page.open(start_server("--demo").url)
    page.run(
        "const script = document.createElement('script'); script.textContent = 'window.ran = 1';"
        "document.body.append(script)"
    )
    assert page.run("return window.ran") is None
    assert any("Content Security Policy" in line for line in page.log())


def test_dropped_collection_is_told_in_words_and_the_stream_goes_on(page, shared):
    server, creatures = shared
    page.open(server.url + EVENTS)
    page.wait_for_state("live")
    creatures.insert_one({"n": 1})
    page.wait_for_items(1)
    before = page.text("last-id")
    creatures.drop()
    items = page.wait_for_items(2)
    assert items[1].startswith("reset: The collection pages.creatures was dropped.")
    assert "may be out of date" in items[1]
    page.wait("document.getElementById('reset-count').textContent === '1'")
    page.wait("document.getElementById('last-id').textContent !== arguments[0]", before)
    creatures.insert_one({"n": 2})
    assert json_of(page.wait_for_items(3)[2])["n"] == 2


def test_only_the_newest_are_kept(page, shared):
    server, creatures = shared
    page.open(server.url + EVENTS)
    page.wait_for_state("live")
    creatures.insert_many([{"n": n} for n in range(250)])
    page.wait("document.getElementById('message-count').textContent === '250'")
    assert numbers(page.items()) == list(range(50, 250))
    creatures.insert_one({"n": 250})
    page.wait("document.getElementById('message-count').textContent === '251'")
    assert numbers(page.items()) == list(range(51, 251))
    assert "newest first, at most 200" in page.run("return document.body.innerText")


def test_paused_list_stands_still_and_misses_nothing(page, shared):
    server, creatures = shared
    page.open(server.url + EVENTS)
    page.wait_for_state("live")
    creatures.insert_one({"n": 1})
    page.wait_for_items(1)
    page.run("document.getElementById('pause').click()")
    creatures.insert_many([{"n": 2}, {"n": 3}])
    page.wait("document.getElementById('pause').textContent === 'Resume (2 new)'")
    assert numbers(page.items()) == [1]
    assert page.text("message-count") == "3"
    page.run("document.getElementById('pause').click()")
    assert numbers(page.wait_for_items(3)) == [1, 2, 3]
    assert page.text("pause") == "Pause"


# -- the connection ----------------------------------------------------------------------------------


def test_killed_server_comes_back_and_the_page_has_everything_once(page, database, mongo):
    page.open(mongo.url + EVENTS)
    page.wait_for_state("live")
    database.creatures.insert_many([{"n": n} for n in range(20)])
    page.wait_for_items(20)
    note_reasons(page)
    mongo.kill()
    page.wait("whys.includes('connection lost')")
    page.wait("whys.includes('the server is unreachable')")
    assert page.text("state") == "Reconnecting"
    database.creatures.insert_many([{"n": n} for n in range(20, 40)])
    mongo.start()
    database.creatures.insert_many([{"n": n} for n in range(40, 60)])
    page.wait("[...document.querySelectorAll('#events li')].some(li => li.textContent.includes('\"n\":59'))")
    page.wait_for_state("live")
    assert page.text("why") == ""
    assert numbers(page.items()) == list(range(60))
    assert page.text("message-count") == "60"


def test_goodbye_is_told_and_the_script_is_taken_up_where_it_stopped(page, start_server):
    demo = start_server("--demo", "--retry-ms", "200")
    page.open(demo.url)
    page.wait_for_items(1)
    note_reasons(page)
    assert demo.stop() == 0
    page.wait("whys.includes('the server closed the connection: shutdown')")
    page.wait_for_state("reconnecting")
    demo.start()
    assert page.wait_for_items(3) == ["message: Sending 1", "message: Sending 2", "message: Sending 3"]
    page.wait_for_state("live")


def test_refused_stream_ends_and_says_why(page, start_server):
    page.open(start_server("--demo").url + "/?sinse=now")
    page.wait_for_state("ended")
    assert page.text("state") == "Ended"
    assert "unknown parameter 'sinse'" in page.text("refusal")
    assert page.run("return document.getElementById('refusal').checkVisibility()"), "it is out of sight"


def test_quiet_browser_comes_back_from_the_checkpoint_it_was_sent(page, sandbox, database, start_server):
    server = start_server(
        "--mongo", sandbox.uri, "--database", database.name, "--retry-ms", "200", "--heartbeat-seconds", "0.2"
    )
    with Relay(server.port) as relay:
        page.open(relay.url + EVENTS)
        page.wait_for_state("live")
        database.creatures.insert_one({"n": 1})
        page.wait_for_items(1)
        before = len(relay.checkpoints())
        # Not streamed, but it moves the cluster's time on.
        database.elsewhere.insert_one({})
        relay.wait(lambda: len(relay.checkpoints()) > before)
        relay.cut()
        relay.wait(lambda: len(relay.stream_requests()) == 2)
        assert f"last-event-id: {relay.checkpoints_when_cut[-1]}" in relay.stream_requests()[1].lower()
        database.creatures.insert_one({"n": 2})
        assert numbers(page.wait_for_items(2)) == [1, 2]
        # An event that could have come twice would have come before this one.
        database.creatures.insert_one({"n": 3})
        assert numbers(page.wait_for_items(3)) == [1, 2, 3]


PROBLEM = 'retry: 50\nevent: problem\ndata: {"detail":"too many readers"}\n\n'
STREAM = "id: 1\ndata: here\n\n"


def test_problem_is_told_and_passes(page):
    with ScriptedServer(STATIC) as server:
        page.open(server.url + EVENTS)
        server.answer(PROBLEM)
        page.wait("document.getElementById('why').textContent === 'too many readers'")
        page.wait_for_state("connecting")
        server.answer(STREAM)
        assert page.wait_for_items(1) == ["message: here"], "nothing was missed before the first stream"


def test_gap_is_told_after_the_refusals_that_prolong_it(page):
    with ScriptedServer(STATIC) as server:
        page.open(server.url + EVENTS)
        server.answer("retry: 50\n\n")
        server.answer(502)
        server.answer(PROBLEM)
        server.answer(STREAM)
        items = page.wait_for_items(2)
        assert [item.rpartition(" ")[2] for item in items] == ["(position-unknown)", "here"]


def test_interrupted_feed_is_told(page):
    with ScriptedServer(STATIC) as server:
        page.open(server.url + EVENTS)
        page.run(
            """
            window.states = [];
            new MutationObserver(() => states.push(document.documentElement.dataset.state))
              .observe(document.documentElement, { attributes: true });
            """
        )
        server.answer('id: 1\nevent: feed\ndata: {"state":"interrupted"}\n\n')
        page.wait("states.includes('interrupted')")


# -- the form ----------------------------------------------------------------------------------------


def press(page: Browser, *keys: str) -> None:
    """Press keys, one after the other, wherever the focus is."""
    ActionChains(page.driver).send_keys(*keys).perform()


def fill_in(page: Browser, **texts: str) -> None:
    """Write into the form's fields as a user does, and send it with the Enter key."""
    page.run("document.getElementById('choose').open = true")
    for name, text in texts.items():
        field = page.driver.find_element("id", name)
        if name != "format":
            field.clear()
        field.send_keys(text)
    page.driver.find_element("id", "filter").send_keys(Keys.ENTER)


def test_form_changes_what_arrives(page, shared):
    server, creatures = shared
    opened(page, server.url + EVENTS)
    creatures.insert_one({"_id": "f1", "type": "otter"})
    page.wait_for_items(1)
    fill_in(page, stream="creatures", filter='{"type": "newt"}', fields="type, size")
    page.wait("location.search.includes('newt')")
    page.wait_for_state("live")
    assert page.items() == [], "what came before it is not what was asked for"
    assert page.text("message-count") == "0"
    creatures.database.herons.insert_one({"_id": "f2", "type": "newt"})
    creatures.insert_many(
        [{"_id": "f3", "type": "heron"}, {"_id": "f4", "type": "newt", "size": 5, "mood": "calm"}]
    )
    assert page.wait_for_items(1) == ['message: {"_id":"f4","type":"newt","size":5}']
    creatures.update_one({"_id": "f3"}, {"$set": {"type": "newt"}})
    assert page.wait_for_items(2)[1:] == ['message: {"_id":"f3","type":"newt"}']
    assert page.text("chosen") == 'stream=creatures  filter={"type": "newt"}  fields=type,size'
    page.run("document.querySelector('[type=reset]').click()")
    page.wait("location.search === '?view=events'")
    page.wait_for_state("live")
    creatures.database.herons.insert_one({"_id": "f5", "type": "heron"})
    assert page.wait_for_items(1) == ['message: {"_id":"f5","type":"heron"}']
    assert page.run("return document.getElementById('filter').value") == ""
    assert page.log() == []


def test_form_is_used_without_a_mouse(page, shared):
    server, creatures = shared
    opened(page, server.url + EVENTS)
    links = page.run("return [...document.querySelectorAll('nav a')].filter(a => a.checkVisibility()).length")
    press(page, *[Keys.TAB] * links, Keys.TAB, Keys.ENTER)
    page.wait("document.getElementById('choose').open")
    press(page, Keys.TAB, "creatures", Keys.TAB, "n", Keys.TAB, "e", Keys.TAB, '{"n": 2}')
    assert page.run("return document.activeElement.id") == "filter"
    press(page, Keys.TAB, Keys.SPACE)
    page.wait("location.search.includes('format=envelope')")
    page.wait_for_state("live")
    creatures.insert_many([{"n": 1}, {"n": 2}])
    assert json_of(page.wait_for_items(1)[0])["doc"]["n"] == 2
    # Each part that takes the focus has a name that a screen reader can say.
    unnamed = """
        return [...document.querySelectorAll("input, select, button, a, summary")].filter((element) =>
          !element.textContent.trim() && !element.labels?.length && !element.ariaLabel)
          .map((element) => element.outerHTML);
        """
    assert page.run(unnamed) == []


def test_link_asks_for_the_same_in_a_fresh_load(page, shared):
    server, creatures = shared
    hard = 'it\'s <b>100 %</b> "a+b" & ü; $HOME `x` \\'
    wishes = {
        "stream": "pages.creatures",
        "filter": json_text({"name": {"$eq": hard}}),
        "fields": "-mood",
        "format": "envelope",
    }
    opened(page, server.url + "/?ops=insert,delete")
    fill_in(page, **wishes)
    page.wait("location.search.includes('format=envelope')")
    link = page.run("return document.getElementById('link').href")
    assert link == page.run("return location.href")
    assert parse_qs(urlsplit(link).query) == {
        "ops": ["insert,delete"], **{name: [value] for name, value in wishes.items()}
    }, "what the form has no field for is kept"  # fmt: skip
    page.open("about:blank")
    opened(page, link)
    values = "return ['stream', 'filter', 'fields', 'format'].map(id => document.getElementById(id).value)"
    assert page.run(values) == list(wishes.values())
    creatures.insert_many([{"name": "other"}, {"name": hard, "mood": "calm"}])
    creatures.update_one({"name": hard}, {"$set": {"mood": "curious"}})
    creatures.insert_one({"name": hard, "last": True})
    items = page.wait_for_items(2)
    assert [(json_of(item)["op"], json_of(item)["doc"].get("last")) for item in items] == [
        ("insert", None),
        ("insert", True),
    ]
    assert not any("mood" in item for item in items)


def test_command_gives_the_same_events(page, shared):
    server, creatures = shared
    name = 'it\'s "a+b" & 100 % of ü, $HOME `x` \\ !; *?[a-z]{1,2} #'
    opened(page, server.url + EVENTS)
    fill_in(page, stream="creatures", format="envelope", filter=json_text({"name": name}))
    page.wait("location.search.includes('stream=creatures')")
    page.wait_for_state("live")
    with Command(page.text("command")) as curl:
        curl.until(r"retry: 3000\n\nid: .*\n\n")
        creatures.insert_many([{"_id": "c1", "name": "other"}, {"_id": "c2", "name": name}])
        creatures.replace_one({"_id": "c1"}, {"name": name, "n": 1})
        items = page.wait_for_items(2)
        curl.until(r"(?s)retry(.*?\nevent: .*?\n\n){2}")
        said = re.findall(r"^event: (.*)\ndata: (.*)$", curl.said, re.M)
        assert [f"{operation}: {data}" for operation, data in said] == items
        assert [json_of(item)["id"] for item in items] == ["c2", "c1"]


def test_command_is_copied(page, shared):
    server, _ = shared
    page.driver.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    opened(page, server.url + "/?filter=" + quote('{"n": 1}'))
    expected = f"curl -N -G {server.url}/stream --data-urlencode 'filter={{\"n\": 1}}'"
    page.run("document.getElementById('choose').open = true; document.getElementById('copy').click()")
    page.wait("document.getElementById('copied').textContent === 'Copied'")
    assert page.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])") == expected
    # A page that came over plain HTTP from elsewhere has no clipboard.
    page.run("navigator.clipboard.writeText = () => Promise.reject(new Error('no'))")
    page.run("document.getElementById('copied').textContent = ''; document.getElementById('copy').click()")
    page.wait("document.getElementById('copied').textContent")
    assert page.run("return getSelection().toString()") == expected


def test_bad_wish_is_told_in_the_servers_words_and_mended(page, shared):
    server, creatures = shared
    opened(page, server.url + EVENTS)
    fill_in(page, filter='{"a": {"$where": 1}}')
    page.wait_for_state("ended")
    assert page.text("refusal") == "unknown operator $where at filter.a"
    assert page.run("return document.getElementById('refusal').role") == "alert"
    assert page.text("why") == ""
    fill_in(page, stream="secrets", filter="")
    page.wait("document.getElementById('refusal').textContent.includes(\"there is no stream 'secrets'\")")
    # Also when it comes with a link.
    page.open(page.run("return location.href"))
    page.wait("document.getElementById('refusal').textContent.includes(\"there is no stream 'secrets'\")")
    assert page.run("return document.getElementById('refusal').checkVisibility()")
    fill_in(page, stream="creatures")
    page.wait_for_state("live")
    assert page.text("refusal") == ""
    creatures.insert_one({"n": 1})
    assert numbers(page.wait_for_items(1)) == [1]


def test_markup_in_a_wish_or_in_an_answer_is_text_and_nothing_runs(page, shared):
    server, creatures = shared
    attack = "<img src=x onerror=window.ran=1></pre></details><script>window.ran=1</script>"
    opened(page, server.url + EVENTS)
    tags = "return [...document.querySelectorAll('body *:not(li, li *)')].map(e => e.localName).join()"
    before = page.run(tags)
    for name in ("stream", "filter", "fields", "format", "ops", "since", attack):
        page.open(f"{server.url}/?{quote(name)}={quote(attack)}")
        page.wait("document.documentElement.dataset.state !== 'connecting'")
        assert page.run(tags) == before
        assert attack in page.text("chosen")
        page.log()  # the refusal itself is an error to the browser
    opened(page, server.url + EVENTS)
    fill_in(page, filter=json_text({"type": attack}), format="envelope")
    page.wait("location.search.includes('filter')")
    page.wait_for_state("live")
    creatures.insert_one({"type": attack, attack: 1})
    assert json_of(page.wait_for_items(1)[0])["doc"][attack] == 1
    assert page.run(tags) == before
    assert page.run("return window.ran") is None
    assert page.log() == []


def test_envelopes_are_shown_by_their_operation(page, shared):
    server, creatures = shared
    opened(page, server.url + "/?format=envelope")
    creatures.insert_one({"_id": "e", "n": 1})
    page.wait_for_items(1)
    creatures.update_one({"_id": "e"}, {"$set": {"n": 2}})
    page.wait_for_items(2)
    creatures.replace_one({"_id": "e"}, {"n": 3})
    creatures.delete_one({"_id": "e"})
    items = page.wait_for_items(4)
    operations = ["insert", "update", "replace", "delete"]
    assert [item.partition(": ")[0] for item in items] == operations
    assert [json_of(item)["op"] for item in items] == operations
    assert json_of(items[1])["changed"]["set"] == {"n": 2}
    page.wait("document.getElementById('delete-count').textContent === '1'")
    assert page.text("message-count") == "3"
    looks = page.run(
        """
        return [...document.querySelectorAll("#events li")].map((item) => {
          const { borderLeftStyle, borderLeftColor } = getComputedStyle(item);
          return [borderLeftStyle, borderLeftColor];
        });
        """
    )
    assert looks[0] != looks[1] == looks[2]
    assert looks[3] not in looks[:3]
    assert page.log() == []


# -- behind a proxy ----------------------------------------------------------------------------------


def test_page_works_below_a_path_of_a_proxy(page, shared, nginx):
    server, creatures = shared
    base = nginx(server.port)
    page.open(base + EVENTS)
    page.wait_for_state("live")
    creatures.insert_one({"n": 1})
    assert numbers(page.wait_for_items(1)) == [1]
    addresses = page.run("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert {f"{base}static/{name}" for name in ("page.js", "brook-stream.js", "page.css")} <= set(addresses)
    assert all(address.startswith(base) for address in addresses)
    assert page.log() == []


def test_bad_gateway_is_survived_without_loss(page, database, mongo, nginx):
    page.open(nginx(mongo.port) + EVENTS)
    page.wait_for_state("live")
    database.creatures.insert_many([{"n": 1}, {"n": 2}])
    page.wait_for_items(2)
    mongo.kill()
    # An EventSource would give up now: a 502 is the end of it.
    page.wait("document.getElementById('why').textContent.includes('502')")
    assert page.text("state") == "Reconnecting"
    database.creatures.insert_many([{"n": 3}, {"n": 4}])
    mongo.start()
    page.wait_for_items(4)
    page.wait_for_state("live")
    database.creatures.insert_one({"n": 5})
    assert numbers(page.wait_for_items(5)) == [1, 2, 3, 4, 5]


def test_bad_gateway_before_any_event_is_survived_without_loss(page, database, mongo, nginx):
    page.open(nginx(mongo.port) + EVENTS)
    page.wait_for_state("live")
    mongo.kill()
    page.wait("document.getElementById('why').textContent.includes('502')")
    database.creatures.insert_one({"n": 1})
    mongo.start()
    page.wait_for_state("live")
    database.creatures.insert_one({"n": 2})
    assert numbers(page.wait_for_items(2)) == [1, 2]


def test_position_that_another_server_does_not_know_is_given_up_with_a_reset(page, database, mongo, nginx):
    page.open(nginx(mongo.port) + EVENTS)
    page.wait_for_state("live")
    database.creatures.insert_one({"n": 1})
    page.wait_for_items(1)
    mongo.kill()
    page.wait("document.getElementById('why').textContent.includes('502')")
    other = ServerProcess("--demo", port=mongo.port).start()
    try:
        items = page.wait_for_items(5)
    finally:
        other.kill()
    assert items[1].endswith("(invalid-id)")
    assert items[2:] == ["message: Sending 1", "message: Sending 2", "message: Sending 3"]


def test_page_that_is_left_frees_its_connection_and_goes_on_when_somebody_comes_back(page, database, mongo):
    opened(page, mongo.url + EVENTS)
    database.creatures.insert_one({"n": 1})
    page.wait_for_items(1)
    page.open(mongo.url + "/healthz")
    # The browser keeps the page itself, for as long as a minute with all that it has open.
    mongo.wait_for("client left", seconds=15)
    database.creatures.insert_one({"n": 2})
    page.driver.back()
    page.wait_for_state("live")
    database.creatures.insert_one({"n": 3})
    assert numbers(page.wait_for_items(3)) == [1, 2, 3]
    assert page.text("why") == ""


def test_module_serves_other_pages_and_closes_for_good(page, start_server):
    demo = start_server("--demo")
    # A page of the same origin, which is not ours.
    page.open(f"{demo.url}/healthz", policy=False)
    seen = page.driver.execute_async_script(
        """
        const done = arguments[0];
        import("/static/brook-stream.js").then(({ EventStream }) => {
          const seen = [];
          const stream = new EventStream("stream", {
            onState: () => seen.push(stream.state),
            onEvent: ({ data, id }) => {
              seen.push(data, id);
              stream.close();
              setTimeout(() => done([...seen, stream.position]));
            },
          });
        });
        """
    )
    assert seen == ["live", "Sending 1", "demo-1", "ended", "demo-1"]
    demo.wait_for("client left")


def test_closing_frees_the_connections_that_wait_for_an_answer(page):
    """A browser has six for a site; with all of them waiting, nothing else would be loaded."""
    with ScriptedServer(STATIC) as server:
        page.open(f"{server.url}static/favicon.svg")
        status = page.driver.execute_async_script(
            """
            const done = arguments[0];
            const { fetch } = window;
            const streams = [];
            let asked = 0;
            window.fetch = (...all) => {
              const answer = fetch(...all);
              if (++asked === 6) {
                for (const stream of streams) stream.close();
                fetch("/static/page.css").then(({ status }) => done(status));
              }
              return answer;
            };
            import("/static/brook-stream.js").then(({ EventStream }) => {
              while (streams.length < 6) streams.push(new EventStream("/stream"));
            });
            """
        )
        assert status == 200


# -- how it looks ------------------------------------------------------------------------------------


def test_page_fits_a_phone_and_is_legible_in_light_and_dark(page, shared):
    server, creatures = shared
    page.open(server.url + EVENTS)
    page.wait_for_state("live")
    beds = []
    for scheme in ("light", "dark"):
        page.emulate(scheme=scheme, width=320)
        beds.append(page.run("return getComputedStyle(document.body).backgroundColor"))
        assert too_wide(page) == []
        assert faint(page) == []
    assert beds[0] != beds[1]
    creatures.insert_one({"_id": 1, "long": "x" * 500, "longer": "y " * 500, "deep": [[[[1]]]]})
    creatures.delete_one({"_id": 1})
    creatures.drop()
    page.wait_for_items(3)
    for scheme in ("light", "dark"):
        page.emulate(scheme=scheme, width=320)
        assert too_wide(page) == []
        assert faint(page) == []


def test_form_fits_a_phone_and_is_legible_in_light_and_dark(page, shared):
    server, _ = shared
    wishes = f"/?filter={quote(json_text({'a' * 60: {'$where': 1}}))}&ops=delete&fields={'b' * 60}"
    page.open(server.url + wishes)
    page.wait_for_state("ended")
    for scheme in ("light", "dark"):
        page.emulate(scheme=scheme, width=320)
        # A field scrolls what is written into it.
        page.run("for (const input of document.querySelectorAll('input')) input.value = ''")
        assert page.run("return document.getElementById('command').checkVisibility()")
        assert too_wide(page) == []
        assert faint(page) == []
