"""Builds the site: `python -m website.build`.

It fails at a link that leads nowhere, and at a page that has no place in the navigation.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from pygments.formatters import HtmlFormatter

ROOT = Path(__file__).resolve().parent.parent
CONFIGURATION = ROOT / "website" / "properdocs.yml"
BUILD = ROOT / "build" / "website"

# A link of Markdown to another file. GitHub takes any; a site has only the files that are copied into it.
LINK = re.compile(r"\]\((?![a-z]+:)([^)#\s]+)")

# The second word behind a fence is for the tests of the docs, and unknown to Markdown's own extension.
FENCE = re.compile(r"^```(\w+) .*$", re.MULTILINE)


def pages() -> list[Path]:
    """The pages of the docs and the examples, those of the project's folder first."""
    own = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
    return [*own, *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]


def linked(page: Path) -> Iterable[Path]:
    """The files that a page links to."""
    targets = ((page.parent / name).resolve() for name in LINK.findall(page.read_text(encoding="utf-8")))
    return (target for target in targets if target.is_file() and target.is_relative_to(ROOT))


def assemble(folder: Path) -> None:
    """Copy the pages and the files that they link to, in the same places: so the same links work."""
    shutil.rmtree(folder, ignore_errors=True)
    found = set(pages())
    for file in found | {target for page in found for target in linked(page)}:
        copy = folder / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".md":
            text = file.read_text(encoding="utf-8")
            copy.write_text(FENCE.sub(r"```\1", text), encoding="utf-8")
        else:
            shutil.copy(file, copy)
    (folder / "code.css").write_text(HtmlFormatter(style="friendly").get_style_defs(".codehilite"))


def decisions() -> str:
    """The end of the navigation: each page of a decision, by its number."""
    found = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    return "".join(f"      - {page.relative_to(ROOT)}\n" for page in found)


def main() -> int:
    assemble(BUILD / "source")
    copy = BUILD / CONFIGURATION.name
    copy.write_text(CONFIGURATION.read_text(encoding="utf-8") + decisions(), encoding="utf-8")
    # Never with --quiet: it hides the warnings from --strict, too.
    command = [sys.executable, "-m", "properdocs", "build", "--strict", "--config-file", copy]
    status = subprocess.run(command, check=False).returncode
    if status == 0:
        print(f"built {(ROOT / 'build' / 'site' / 'index.html').relative_to(ROOT)}")
    return status


if __name__ == "__main__":
    sys.exit(main())
