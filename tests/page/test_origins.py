"""Pages of other origins, in a real Chromium: which of them may read a stream, and with their cookies."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from tests.support.browser import chromium_fixture, page_fixture  # noqa: F401

READ = """
    const [url, credentials, done] = arguments;
    const stream = new EventSource(url, {withCredentials: credentials});
    stream.onmessage = ({data}) => { stream.close(); done(data); };
    stream.onerror = () => { stream.close(); done("refused"); };
"""

# A bundle: its content type makes the browser ask first.
POST = """
    const [url, done] = arguments;
    const headers = {"Content-Type": "application/json"};
    fetch(url, {method: "POST", credentials: "include", headers, body: "{}"})
      .then((response) => done(response.status), () => done("refused"));
"""


class Blank(http.server.SimpleHTTPRequestHandler):
    """Answers with an empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The origin of a page that another server has."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Blank) as other:
        serving = threading.Thread(target=other.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{other.server_address[1]}"
        other.shutdown()
        serving.join()


def test_page_of_an_allowed_origin_reads_with_its_cookies(page, start_server, elsewhere):
    demo = start_server("--demo", "--cors-origin", "https://a.example", "--cors-origin", elsewhere)
    page.open(elsewhere)
    read = page.driver.execute_async_script
    assert read(READ, demo.url + "/stream", True) == "Sending 1"
    # The demo takes no bundles, and says so to this page: it was allowed to ask, and to read the answer.
    assert read(POST, demo.url + "/stream") == 404


@pytest.mark.parametrize("origin", ["", "https://a.example"])
def test_page_of_any_other_origin_reads_nothing(page, start_server, elsewhere, origin):
    demo = start_server("--demo", "--cors-origin", origin)
    page.open(elsewhere)
    read = page.driver.execute_async_script
    assert read(READ, demo.url + "/stream", False) == "refused"
    assert read(POST, demo.url + "/stream") == "refused"


def test_page_of_any_origin_reads_by_default_but_never_with_cookies(page, start_server, elsewhere):
    demo = start_server("--demo")
    page.open(elsewhere)
    read = page.driver.execute_async_script
    assert read(READ, demo.url + "/stream", False) == "Sending 1"
    assert read(READ, demo.url + "/stream", True) == "refused"
