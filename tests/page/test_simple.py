"""The smallest example, read by a real Chromium."""

from __future__ import annotations

from tests.support.browser import chromium_fixture, page_fixture  # noqa: F401 - fixtures


def test_smallest_example_lists_the_demos_messages_and_is_linked_from_the_page(page, start_server):
    page.open(start_server("--demo").url)
    page.run("document.querySelector('nav a[href=\"static/simple.html\"]').click()")
    page.wait("location.pathname === '/static/simple.html'")
    assert page.wait_for_items(3) == ["message: Sending 1", "message: Sending 2", "message: Sending 3"]
    assert page.log() == []
    page.run("document.querySelector('a[href=\"..\"]').click()")
    page.wait("location.pathname === '/'")


def test_smallest_example_lists_the_documents_of_mongodb(page, sandbox, database, start_server):
    server = start_server("--mongo", sandbox.uri, "--database", database.name)
    page.open(server.url + "/static/simple.html")
    page.wait("source.readyState === 1")
    database.creatures.insert_one({"_id": 1, "type": "<b>crawdad</b>"})
    assert page.wait_for_items(1) == ['message: {"_id":1,"type":"<b>crawdad</b>"}']
    assert page.log() == []
