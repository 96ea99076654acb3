"""`make docs`: a site of all pages, and a failure at a link that leads nowhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.support.clone import copy_to
from tests.support.processes import ROOT
from website.build import pages


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """An environment with what the lock names, as `make docs` sets it up; uv does it in a second."""
    folder = tmp_path_factory.mktemp("venv") / "venv"
    uv = Path(sys.executable).parent / "uv"
    environment = {"UV_SYSTEM_CERTS": "1"} | os.environ
    python = folder / "bin" / "python"
    sync = [uv, "pip", "sync", "--require-hashes", "--only-binary", ":all:", "--python", python]
    for command in ([uv, "venv", "--python", sys.executable, folder], [*sync, ROOT / "locks" / "docs.txt"]):
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=170)
    return python


@pytest.fixture
def clone(tmp_path) -> Path:
    copy_to(tmp_path)
    return tmp_path


def build(python: Path, clone: Path) -> subprocess.CompletedProcess[str]:
    command = [python, "-m", "website.build"]
    return subprocess.run(command, cwd=clone, capture_output=True, text=True, timeout=120, check=False)


class Page(HTMLParser):
    """The addresses that a page of the site fetches from elsewhere, and its links to files of the site."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if value and tag in ("script", "link", "img") and name in ("src", "href"):
                self.fetched.append(value)
            elif value and tag == "a" and name == "href" and not re.match(r"[a-z]+:|#", value):
                self.links.append(value.partition("#")[0])


def test_site_has_every_page_and_what_the_pages_link_to(python, clone):
    built = build(python, clone)
    assert built.returncode == 0, built.stderr
    site = clone / "build" / "site"
    for page in pages():
        path = site / page.relative_to(ROOT).with_suffix(".html")
        path = path.with_name("index.html") if path.name == "README.html" else path
        found = Page(path)
        assert not [address for address in found.fetched if "//" in address], "it needs no other host"
        for link in found.links:
            assert (path.parent / link).exists(), f"{page.name}: {link}"
    assert (site / "deploy" / "nginx.conf").exists()
    # A block whose fence has a second word is code, too.
    assert '<div class="codehilite"' in (site / "docs" / "protocol.html").read_text(encoding="utf-8")
    assert "```" not in (site / "docs" / "protocol.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("page", "text", "said"),
    [
        ("README.md", "[Nothing](docs/nothing.md)", "docs/nothing.md"),
        ("docs/resume.md", "[Nothing](protocol.md#nothing)", "#nothing"),
        ("docs/lost.md", "# A page without a place", "docs/lost.md"),
    ],
)
def test_build_fails_at_a_link_or_a_page_that_leads_nowhere(python, clone, page, text, said):
    with (clone / page).open("a", encoding="utf-8") as file:
        file.write(f"\n{text}\n")
    built = build(python, clone)
    assert built.returncode == 1
    assert said in built.stderr


def test_pages_are_sorted_into_tutorial_guides_reference_and_explanation():
    text = (ROOT / "website" / "properdocs.yml").read_text(encoding="utf-8")
    assert re.findall(r"^  - ([^:]+):", text.partition("\nnav:\n")[2], re.M) == [
        "Home", "Tutorial", "How to", "Reference", "Explanation", "Decisions"
    ]  # fmt: skip
