"""The explorer, read by a real Chromium: a collection's documents as a table that stays true."""

from __future__ import annotations

import re
import time
from typing import Any
from urllib.parse import quote

import pymongo
import pytest
from pymongo import WriteConcern
from selenium.webdriver.common.keys import Keys

from tests.support.browser import Browser, chromium_fixture, page_fixture  # noqa: F401 - fixtures
from tests.support.looks import faint, too_wide
from tests.support.ports import free_port
from tests.support.processes import ServerProcess

CELLS = """[...document.querySelectorAll('#documents-frame tbody tr:not(.spacer, .left, .deleted)')]
  .map(tr => [...tr.cells].map(cell => cell.textContent))
"""
LOG = "[...document.querySelectorAll('#changes li')].map(li => li.innerText.replace(/\\s+/g, ' '))"


@pytest.fixture(scope="module")
def server(sandbox):
    """A server for all tests of the file; each test has its collection to itself while it runs."""
    names = ("--database", "explored", "--collection", "creatures", "--collection", "herons")
    server = ServerProcess("--mongo", sandbox.uri, *names).start()
    yield server
    server.kill()


@pytest.fixture
def creatures(sandbox):
    with pymongo.MongoClient[Any](sandbox.uri) as client:
        yield client.explored.get_collection("creatures", write_concern=WriteConcern("majority"))
        client.explored.creatures.delete_many({})
        client.explored.herons.delete_many({})


def opened(page: Browser, address: str) -> None:
    page.open(address)
    page.wait("document.getElementById('size').textContent.includes('document')")


def wait_for_rows(page: Browser, rows: list[list[str]]) -> None:
    page.wait(f"JSON.stringify({CELLS}) === JSON.stringify(arguments[0])", rows)


def field(page: Browser, name: str) -> Any:
    return page.driver.find_element("css selector", f"#query [name={name}]")


def fill_in(page: Browser, name: str, text: str) -> None:
    field(page, name).clear()
    field(page, name).send_keys(text)


# -- documents ---------------------------------------------------------------------------------------


def test_page_opens_with_the_documents_newest_first_and_keeps_them_true(page, server, creatures):
    creatures.insert_one({"_id": 1, "type": "newt", "at": {"city": "Bern", "zip": [3000, 3001]}})
    opened(page, server.url)
    wait_for_rows(page, [["1", "newt", '{ city: "Bern", zip: [3000, 3001] }']])
    headings = "return [...document.querySelectorAll('#documents-frame thead th')].map(th => th.textContent)"
    assert page.run(headings) == ["_id", "type", "at"]
    assert page.text("state") == "Live"
    creatures.insert_one({"_id": 2, "type": "crawdad", "size": 3})
    wait_for_rows(page, [["2", "crawdad", "", "3"], ["1", "newt", '{ city: "Bern", zip: [3000, 3001] }', ""]])
    creatures.delete_one({"_id": 1})
    wait_for_rows(page, [["2", "crawdad", "", "3"]])
    assert page.text("size") == "1 document"
    assert page.log() == []


def test_entering_changed_leaving_and_deleted_rows_are_told_apart(page, server, creatures):
    creatures.insert_many([{"_id": n, "type": "newt", "size": n} for n in range(3)])
    opened(page, server.url + "?view=documents&filter=" + quote('{"type": "newt"}'))
    wait_for_rows(page, [["2", "newt", "2"], ["1", "newt", "1"], ["0", "newt", "0"]])
    page.run(
        """
        window.seen = new Set();
        new MutationObserver(() => {
          for (const tr of document.querySelectorAll("#documents-frame tbody tr[class]:not(.spacer)")) {
            const flashed = [...tr.querySelectorAll(".flash")].map(cell => cell.textContent);
            seen.add([tr.className, tr.cells[0].textContent, ...flashed].join(" "));
          }
        }).observe(document.getElementById("documents-frame"), { subtree: true, attributes: true });
        """
    )
    creatures.insert_one({"_id": 3, "type": "newt"})
    creatures.update_one({"_id": 2}, {"$set": {"size": 9}})
    creatures.update_one({"_id": 1}, {"$set": {"type": "old newt"}})
    creatures.delete_one({"_id": 0})
    for seen in ("entered 3", "changed 2 9", "left 1", "deleted 0"):
        page.wait("seen.has(arguments[0])", seen)
    # The marks pass.
    page.wait("!document.querySelector('#documents-frame :is(.entered, .changed, .left, .deleted, .flash)')")
    wait_for_rows(page, [["3", "newt", ""], ["2", "newt", "9"]])


def test_log_has_each_change_with_before_and_after(page, server, creatures):
    opened(page, server.url)
    creatures.insert_one({"_id": "a", "size": 1, "at": {"x": 1, "y": 1}})
    page.wait(f"{LOG}.length === 1")
    creatures.update_one({"_id": "a"}, {"$set": {"size": 2, "at.y": 5}, "$unset": {"none": 1}})
    page.wait(f"{LOG}.length === 2")
    creatures.delete_one({"_id": "a"})
    page.wait(f"{LOG}.length === 3")
    deleted, updated, inserted = page.run(f"return {LOG}")
    assert deleted.startswith("delete a ")
    assert deleted.endswith("size 2 at { x: 1, y: 5 }")
    assert updated.startswith("update a ")
    assert updated.endswith("size 1 2 at.y 1 5")
    assert inserted.startswith("insert a ")
    assert inserted.endswith("size 1 at { x: 1, y: 1 }")
    page.wait("document.getElementById('news').textContent.endsWith('changes')")


def test_more_rows_than_fit_are_drawn_when_they_are_scrolled_to(page, server, creatures):
    creatures.insert_many([{"_id": n} for n in range(2_500)])
    opened(page, server.url + "?view=documents&sort=")
    page.wait("document.getElementById('size').textContent === 'the first 2000 of 2500 documents'")
    drawn = "document.querySelectorAll('#documents-frame tbody tr').length"
    assert page.run(f"return {drawn}") < 100
    page.run("document.getElementById('documents-frame').scrollTop = 1e6")
    page.wait("document.querySelector('#documents-frame tbody').innerText.includes('1999')")
    assert page.run(f"return {drawn}") < 100
    assert page.run("return document.querySelector('#documents-frame table').ariaRowCount") == "2001"


def test_markup_in_a_document_is_text_in_the_table_and_in_the_log(page, server, creatures):
    attack = "<img src=x onerror=window.ran=1><script>window.ran=1</script>"
    opened(page, server.url)
    creatures.insert_one({"_id": attack, attack: {attack: attack}})
    page.wait(f"{LOG}.length === 1")
    page.run("document.querySelector('#documents-frame tbody button').click()")
    page.wait("document.querySelector('#document pre').textContent.includes('onerror')")
    assert page.run("return document.querySelectorAll('main img, main script').length") == 0
    assert page.run("return window.ran") is None
    assert page.log() == []


# -- the query ---------------------------------------------------------------------------------------


def test_filter_sort_and_fields_work_as_they_are_typed(page, server, creatures):
    creatures.insert_many([{"_id": n, "type": "newt" if n % 2 else "heron", "size": -n} for n in range(4)])
    opened(page, server.url)
    fill_in(page, "filter", '{"type": "newt"}')
    wait_for_rows(page, [["3", "newt", "-3"], ["1", "newt", "-1"]])
    fill_in(page, "sort", '{"size": -1}')
    wait_for_rows(page, [["1", "newt", "-1"], ["3", "newt", "-3"]])
    fill_in(page, "fields", "size")
    wait_for_rows(page, [["1", "-1"], ["3", "-3"]])
    # The address is that of this query.
    page.open(page.run("return location.href"))
    wait_for_rows(page, [["1", "-1"], ["3", "-3"]])


def test_bad_filter_is_told_in_place_and_the_documents_stay(page, server, creatures):
    creatures.insert_one({"_id": 1, "type": "newt"})
    opened(page, server.url)
    refusal = "document.getElementById('q-refusal').textContent"
    for text, why in (
        ('{"type": {"$where": 1}}', "unknown operator $where at filter.type"),
        ("{type: 1}", "double quotes"),
    ):
        fill_in(page, "filter", text)
        page.wait(f"{refusal}.includes(arguments[0])", why)
        assert field(page, "filter").get_attribute("aria-invalid") == "true"
        assert page.text("state") == "Live"
        wait_for_rows(page, [["1", "newt"]])
    fill_in(page, "filter", '{"type": "newt"}')
    page.wait(f"{refusal} === ''")
    creatures.insert_one({"_id": 2, "type": "newt"})
    wait_for_rows(page, [["2", "newt"], ["1", "newt"]])


def test_collection_is_chosen_from_the_list(page, server, creatures):
    creatures.database.herons.insert_one({"_id": "h", "legs": 2})
    opened(page, server.url)
    options = "return [...document.querySelector('#query [name=stream]').options].map(o => o.value)"
    assert page.run(options) == ["creatures", "herons"]
    field(page, "stream").send_keys("herons")
    wait_for_rows(page, [["h", "2"]])


def test_result_that_is_too_large_is_told_and_a_sort_mends_it(page, sandbox, database, start_server):
    server = start_server(
        "--mongo", sandbox.uri, "--database", database.name, "--snapshot-max-documents", "10"
    )
    database.creatures.insert_many([{"_id": n} for n in range(11)])
    page.open(server.url + "?view=documents&sort=")
    page.wait("document.getElementById('q-refusal').textContent.includes('10')")
    fill_in(page, "sort", '{"_id": -1}')
    page.wait("document.getElementById('size').textContent === '11 documents'")
    assert page.text("q-refusal") == ""


def test_killed_server_comes_back_and_the_table_is_true_again(page, sandbox, database, start_server):
    server = start_server("--mongo", sandbox.uri, "--database", database.name, "--retry-ms", "200")
    database.creatures.insert_many([{"_id": 1, "n": 1}, {"_id": 2, "n": 1}])
    opened(page, server.url)
    server.kill()
    page.wait_for_state("reconnecting")
    wait_for_rows(page, [["2", "1"], ["1", "1"]])
    database.creatures.delete_one({"_id": 1})
    database.creatures.update_one({"_id": 2}, {"$set": {"n": 2}})
    server.start()
    wait_for_rows(page, [["2", "2"]])
    page.wait_for_state("live")


# -- the tools ---------------------------------------------------------------------------------------


def test_paused_table_stands_still_and_then_has_everything(page, server, creatures):
    creatures.insert_one({"_id": 1})
    opened(page, server.url)
    wait_for_rows(page, [["1"]])
    page.run("document.getElementById('documents-pause').click()")
    creatures.insert_many([{"_id": 2}, {"_id": 3}])
    page.wait("document.getElementById('documents-pause').textContent === 'Go on (2 new)'")
    assert page.run(f"return {CELLS}") == [["1"]]
    page.run("document.getElementById('documents-pause').click()")
    wait_for_rows(page, [["3"], ["2"], ["1"]])


def test_search_finds_nested_values(page, server, creatures):
    creatures.insert_many([{"_id": 1, "at": {"city": "Bern"}}, {"_id": 2, "at": {"city": "Basel"}}])
    opened(page, server.url)
    page.driver.find_element("css selector", "#documents-frame").send_keys("/")
    page.driver.switch_to.active_element.send_keys("bern")
    wait_for_rows(page, [["1", '{ city: "Bern" }']])
    assert page.text("size") == "1 of 2 documents"


def test_document_is_followed_with_the_keyboard(page, server, creatures):
    creatures.insert_many([{"_id": n, "at": {"n": n}} for n in range(3)])
    opened(page, server.url)
    wait_for_rows(page, [["2", "{ n: 2 }"], ["1", "{ n: 1 }"], ["0", "{ n: 0 }"]])
    page.driver.find_element("css selector", "#documents-frame button[tabindex='0']").send_keys(
        Keys.ARROW_DOWN
    )
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    text = "document.querySelector('#document pre').textContent"
    page.wait(f"""{text} === '{{\\n  "_id": 1,\\n  "at": {{\\n    "n": 1\\n  }}\\n}}'""")
    creatures.update_one({"_id": 1}, {"$set": {"at.n": 7}})
    page.wait(f"{text}.includes('7')")
    creatures.delete_one({"_id": 1})
    page.wait("document.querySelector('#document [role=status]').textContent === 'Not in the result now'")
    page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.wait("document.getElementById('document').hidden")


def test_query_is_shown_as_code(page, server, creatures):
    opened(page, server.url + "?view=documents&sort=&filter=" + quote('{"n": 1}'))
    code = "return document.querySelector('#as-code pre').textContent"
    url = f"{server.url}/stream/creatures"
    assert page.run(code) == (
        f"curl -N -G {url} --data-urlencode mode=live --data-urlencode 'filter={{\"n\": 1}}'"
    )
    choose = "const s = document.querySelector('#as-code select'); s.value = arguments[0];"
    choose += "s.dispatchEvent(new Event('change'));"
    page.run(choose, "EventSource")
    assert f'new EventSource("{url}?mode=live&filter=%7B%22n%22%3A+1%7D")' in page.run(code)
    # What is copied runs: on any page, from the server's address.
    page.run(choose, "brook.js")
    creatures.insert_one({"_id": "run", "n": 1})
    module = re.sub(r"^import (.*) from (.*);", r"const \1 = await import(\2);", page.run(code))
    module = module.replace("console.log(documents, changes)", "done(documents)")
    found = page.driver.execute_async_script(f"const done = arguments[0]; (async () => {{ {module} }})()")
    assert found == [{"_id": "run", "n": 1}]


def test_rate_and_lag_are_told(page, server, creatures):
    opened(page, server.url)
    creatures.insert_one({"_id": 1})
    page.wait("/^1 change[/]s, lag /.test(document.getElementById('rate').textContent)")
    points = page.run("return document.querySelector('#rate-line polyline').getAttribute('points')")
    assert len(points.split()) == 60


# -- how it looks ------------------------------------------------------------------------------------


def test_numbers_of_the_server_are_shown_while_somebody_looks(page, server, creatures):
    opened(page, server.url)
    rows = """Object.fromEntries([...document.querySelectorAll('#server dt')]
      .map(dt => [dt.textContent, dt.nextSibling.textContent]))"""
    asked = "performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('/metrics')).length"
    assert page.run(f"return {asked}") == 0
    page.run("document.querySelector('#server summary').click()")
    page.wait(f"{rows}['Clients'] >= '1'")
    assert page.run(f"return {rows}")["Live result sets"].endswith(" documents")
    creatures.insert_one({"_id": 1})
    page.wait(f"{rows}['Lag behind MongoDB']?.endsWith(' ms')")
    page.wait(f"{rows}['Events'].endsWith('/s')")
    page.run("document.querySelector('#server summary').click()")
    page.wait("!document.getElementById('server').open")
    before = page.run(f"return {asked}")
    page.run("setTimeout(() => { window.later = true }, 2500)")
    page.wait("window.later")
    assert page.run(f"return {asked}") == before
    assert page.log() == []


def test_server_with_a_port_for_its_numbers_says_so(page, sandbox, database, start_server):
    database.creatures.insert_one({"_id": 1})
    server = start_server(
        "--mongo", sandbox.uri, "--database", database.name, "--metrics-port", str(free_port())
    )
    opened(page, server.url)
    page.run("document.querySelector('#server summary').click()")
    page.wait("document.querySelector('#server [role=status]').textContent.includes('No numbers here')")


def test_explorer_fits_a_phone_and_is_legible_in_light_and_dark(page, server, creatures):
    creatures.insert_many([{"_id": n, "long": "x" * 500, "deep": [[[[1]]]], "none": None} for n in range(3)])
    opened(page, server.url)
    page.run("document.querySelector('#documents-frame tbody button').click()")
    page.run("document.getElementById('as-code').open = true")
    creatures.update_one({"_id": 1}, {"$set": {"long": "y " * 500}})
    creatures.delete_one({"_id": 0})
    page.wait(f"{LOG}.length === 2")
    for scheme in ("light", "dark"):
        page.emulate(scheme=scheme, width=320)
        # The table is scrolled sideways in its frame, and the page is not.
        wide = [
            item for item in too_wide(page) if item.split()[0] in ("html", "body", "main", "form", "aside")
        ]
        assert wide == []
        assert faint(page) == []


def test_table_uses_a_wide_screen_and_has_names_for_a_screen_reader(page, server, creatures):
    creatures.insert_one({"_id": 1, "type": "newt"})
    opened(page, server.url)
    page.emulate(width=1600)
    assert page.run("return document.getElementById('explorer').clientWidth") > 1500
    unnamed = """
        const parts = document.querySelectorAll("#explorer :is(input, select, button, summary)");
        return [...parts].filter((element) => element.checkVisibility() && !element.textContent.trim()
          && !element.labels?.length && !element.ariaLabel).map((element) => element.outerHTML);
        """
    assert page.run(unnamed) == []
    heads = "return [...document.querySelectorAll('#documents-frame th')].map(th => th.scope)"
    assert page.run(heads) == ["col", "col", "row"]


# -- speed -------------------------------------------------------------------------------------------


def test_two_hundred_changes_a_second_in_two_thousand_rows_make_no_long_task(page, server, creatures):
    """Ten seconds of what a developer may leave open all day. A long task is one over 50 ms."""
    creatures.insert_many(
        [{"_id": n, "type": "newt", "size": 0, "mood": "calm", "at": {"x": n}} for n in range(2_000)]
    )
    opened(page, server.url + "?view=documents&sort=")
    page.wait("document.getElementById('size').textContent === '2000 documents'")
    page.run(
        """
        window.tasks = [];
        new PerformanceObserver((list) => tasks.push(...list.getEntries().map(({ duration }) => duration)))
          .observe({ type: "longtask" });
        """
    )
    for attempt in range(1, 4):
        page.run("tasks.length = 0")
        change_for_ten_seconds(creatures)
        creatures.update_one({"_id": 0}, {"$set": {"mood": f"done {attempt}"}})
        page.wait(f"{CELLS}[0].includes('done {attempt}')")
        tasks = page.run("return tasks")
        # The machine is shared: a task may have had to wait. One that is our doing comes each time.
        if len(tasks) <= 3:
            break
    assert len(tasks) <= 3, tasks


def change_for_ten_seconds(creatures: Any) -> None:
    fast = creatures.with_options(write_concern=WriteConcern(1))
    start = time.monotonic()
    for n in range(2_000):
        # Half of the changes are in sight.
        id = n if n % 2 else n % 20
        fast.update_one({"_id": id}, {"$inc": {"size": 1}, "$set": {"mood": f"mood {n}"}})
        time.sleep(max(0, start + n / 200 - time.monotonic()))
