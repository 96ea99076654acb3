"""The client library in a real browser: tabs, their end, and what happens to a network and to a page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from selenium.common.exceptions import WebDriverException

from tests.support.browser import WAIT_SECONDS, Browser, chromium_fixture, page_fixture  # noqa: F401
from tests.support.node import PondServer

FOLLOW = """
    const [name, wanted, options] = arguments;
    import("/static/brook.js").then(({ Brook }) => {
      window.states = [];
      window.draws = [];
      window.brook = new Brook("/", { bundle: true, ...options });
      brook.addEventListener("statechange", () => states.push(brook.state));
      window.live = brook.live(name, wanted);
      live.subscribe((documents) => draws.push(documents.map(({ _id }) => _id)));
    });
"""


@pytest.fixture
def pond() -> Iterator[PondServer]:
    with PondServer() as server:
        yield server


@pytest.fixture
def tabs(page, pond) -> Iterator[Tabs]:
    opened = Tabs(page, pond)
    yield opened
    opened.close()


class Tabs:
    """Tabs of the pond's page, each with a query of its own."""

    def __init__(self, page: Browser, pond: PondServer) -> None:
        self.page = page
        self._pond = pond
        self._first = page.driver.current_window_handle

    def open(self, name: str, wanted: dict[str, Any] | None = None, options: Any = None) -> str:
        self.page.driver.switch_to.new_window("tab")
        self.page.open(self._pond.url)
        self.page.run(FOLLOW, name, wanted or {}, options or {})
        self.page.wait("window.live && live.documents")
        return self.page.driver.current_window_handle

    def go_to(self, tab: str) -> None:
        self.page.driver.switch_to.window(tab)

    def shows(self, tab: str, ids: list[int]) -> None:
        self.go_to(tab)
        self.page.wait("live.documents.map(({ _id }) => _id).join() === arguments[0].join()", ids)

    def close(self) -> None:
        for tab in self.page.driver.window_handles:
            if tab != self._first:
                self.go_to(tab)
                self.page.driver.close()
        self.go_to(self._first)


def until(condition: Any) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ten_tabs_with_a_query_each_are_one_connection(tabs, pond):
    """A browser has six connections for a site that speaks HTTP/1.1."""
    pond.write(*(("ponds", number, {"n": number}) for number in range(10)))
    opened = [tabs.open("ponds", {"filter": {"n": number}}) for number in range(10)]
    assert pond.statistics()["connections"] == 1
    pond.write(*(("ponds", 100 + number, {"n": number}) for number in range(10)))
    for number, tab in enumerate(opened):
        tabs.shows(tab, [number, 100 + number])
    # And the site is still to be reached.
    tabs.page.open(pond.url + "static/brook.js")
    until(lambda: len(pond.statistics()["asked"][0]) == 9)


def test_leading_tab_that_is_closed_hands_over_without_a_hole(tabs, pond):
    pond.write(("ponds", 1, {}), ("rivers", 2, {}))
    leader, other = tabs.open("ponds"), tabs.open("rivers")
    tabs.go_to(leader)
    tabs.page.driver.close()
    pond.write(("rivers", 3, {}))
    tabs.shows(other, [2, 3])
    until(lambda: pond.statistics()["asked"] == [[{"stream": "rivers", "mode": "live"}]])
    pond.write(("rivers", 2, None))
    tabs.shows(other, [3])
    assert "ended" not in tabs.page.run("return states")


def test_leading_tab_that_crashes_hands_over_without_a_hole(tabs, pond):
    pond.write(("ponds", 1, {}), ("rivers", 2, {}))
    leader, other = tabs.open("ponds"), tabs.open("rivers")
    tabs.go_to(leader)
    with pytest.raises(WebDriverException, match="crash"):
        tabs.page.driver.get("chrome://crash")
    pond.write(("rivers", 3, {}))
    tabs.shows(other, [2, 3])
    until(lambda: pond.statistics()["asked"] == [[{"stream": "rivers", "mode": "live"}]])
    draws = tabs.page.run("return draws")
    assert draws == [[2], [2, 3]]


def test_network_that_is_off_and_on_again_costs_nothing_and_no_wait(tabs, pond):
    pond.write(("ponds", 1, {}))
    tab = tabs.open("ponds")
    network = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    tabs.page.driver.execute_cdp_cmd("Network.enable", {})
    tabs.page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": True, **network})
    pond.cut()
    tabs.page.wait("live.state === 'reconnecting' && live.error.code === 'unreachable'")
    pond.write(("ponds", 2, {}))
    tabs.page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": False, **network})
    tabs.shows(tab, [1, 2])
    tabs.page.wait("live.state === 'live'")
    assert tabs.page.run("return draws") == [[1], [1, 2]]


def test_frozen_page_has_everything_when_it_thaws(tabs, pond):
    pond.write(("ponds", 1, {}))
    tab = tabs.open("ponds", options={"share": False})
    tabs.page.driver.execute_cdp_cmd("Page.setWebLifecycleState", {"state": "frozen"})
    pond.write(("ponds", 2, {}))
    pond.cut()
    pond.write(("ponds", 1, None))
    tabs.page.driver.execute_cdp_cmd("Page.setWebLifecycleState", {"state": "active"})
    tabs.shows(tab, [2])
    assert [] not in tabs.page.run("return draws")


def test_page_that_was_left_lets_the_others_go_on_and_joins_them_again(tabs, pond):
    pond.write(("ponds", 1, {}), ("rivers", 2, {}))
    leader, other = tabs.open("ponds"), tabs.open("rivers")
    tabs.go_to(leader)
    tabs.page.open(pond.url + "static/brook.js")
    pond.write(("rivers", 3, {}), ("ponds", 4, {}))
    tabs.shows(other, [2, 3])
    tabs.go_to(leader)
    tabs.page.driver.back()
    assert tabs.page.run("return Boolean(window.live)"), "the browser did not keep the page"
    tabs.shows(leader, [1, 4])
    until(lambda: pond.statistics()["connections"] == 1)


def test_browser_without_locks_has_a_connection_for_each_tab(tabs, pond):
    pond.write(("ponds", 1, {}))
    first = tabs.open("ponds")
    tabs.page.driver.switch_to.new_window("tab")
    tabs.page.open(pond.url)
    tabs.page.run("delete window.BroadcastChannel")
    tabs.page.run(FOLLOW, "ponds", {}, {})
    tabs.page.wait("window.live && live.documents")
    assert pond.statistics()["connections"] == 2
    pond.write(("ponds", 2, {}))
    for tab in (first, tabs.page.driver.current_window_handle):
        tabs.shows(tab, [1, 2])
