"""The command blocks of the docs, and how they are run."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.support.browser import chromium_fixture, page_fixture  # noqa: F401

SECONDS = 30


@dataclass
class Block:
    """A fenced block: what stands behind the fence, and what is in it."""

    info: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(.*)\n((?:.*\n)*?)```$", page.read_text(), re.M)]


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert text.count(old) == 1, f"{old} is {text.count(old)} times in the file"
        text = text.replace(old, new)
    return text


class Command:
    """A command that may run for ever, and what it has said so far."""

    def __init__(self, command: str, **environment: str) -> None:
        self.said = ""
        self.ended = False
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            ["sh", "-c", f"exec {command}"], env=os.environ | environment, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def until(self, pattern: str, seconds: float = SECONDS) -> re.Match[str]:
        """Wait until what it has said begins like this."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not (match := re.match(pattern, self.said)):
                left = deadline - time.monotonic()
                assert not self.ended, f"ended after\n{self.said}\nand not after\n{pattern}"
                assert self._changed.wait(left), f"said\n{self.said}\nand not\n{pattern}"
            return match

    def last_id(self) -> str:
        return re.findall(r"^id: (.*)$", self.said, re.M)[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            while data := stdout.read1():
                self._say(data.decode().replace("\r\n", "\n"))
        self._say("", ended=True)

    def _say(self, text: str, *, ended: bool = False) -> None:
        with self._changed:
            self.said += text
            self.ended = ended
            self._changed.notify_all()


def pattern(expected: str) -> str:
    """A regular expression for a `text` block: an ellipsis stands for anything, alone for any lines."""
    lines = [
        r"(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*?") + "\n"
        for line in expected.splitlines()
    ]
    return "".join(lines).removesuffix("\n")
