"""A source that follows the lines of a growing file: a line is an event, its id is where it ends.

    python docs/example_source.py /var/log/syslog 3333

`docs/sources.md` explains it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import BinaryIO

from brook.errors import BrookError, InvalidId, OperatorError, UnknownPosition
from brook.event import Batch, Event, Position
from brook.settings import Settings
from brook.source import Source
from server import serve

# What one batch holds at most, and how long to wait at the end of the file before looking again.
BATCH_LINES = 1000
POLL_SECONDS = 0.1


class LineSource(Source):
    """Every line that is written to a file from now on; what was written before can be replayed.

    The file must only grow: one that is cut or replaced is another log.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened = contextlib.ExitStack()

    async def open(self) -> None:
        """Open the file, at the end of its last line."""
        try:
            self._file = self._opened.enter_context(self._path.open("rb"))
        except OSError as error:
            raise OperatorError(f"cannot read {self._path}: {error.strerror}") from None
        _go_to_last_line_end(self._file)

    async def past(self) -> AsyncIterator[Batch]:
        """Nothing, but from where on the history is complete."""
        yield Batch(checkpoint=_place(self._file.tell()), restarted=True)

    async def events(self) -> AsyncIterator[Batch]:
        """The lines to come."""
        async for batch in _follow(self._file):
            yield batch

    async def replay(self, after: Position) -> AsyncGenerator[Batch]:
        """The lines after a place, on into the present. Raises UnknownPosition if no line ends there."""
        with self._path.open("rb") as file:
            if not _go_to_line_end(file, int(after.id)):
                raise UnknownPosition(f"no line ends at {after.id}")
            async for batch in _follow(file):
                yield batch

    def position(self, id: str) -> Position:
        """The place that an id names. Raises InvalidId."""
        if not re.fullmatch(r"\d{15}", id):
            raise InvalidId("an id is the offset at which a line ends, in 15 digits")
        return _place(int(id))

    async def close(self) -> None:
        """Close the file, if it was opened."""
        self._opened.close()


async def _follow(file: BinaryIO) -> AsyncGenerator[Batch]:
    """The file's lines from where it is, for ever, in batches."""
    while True:
        events: list[Event] = []
        while len(events) < BATCH_LINES and (line := file.readline()).endswith(b"\n"):
            text = line.decode(errors="replace").removesuffix("\n")
            events.append(Event(_place(file.tell()).id, text))
        if not line.endswith(b"\n"):
            # Half a line: it is read again when the rest of it is there.
            file.seek(-len(line), os.SEEK_CUR)
        yield Batch(tuple(events), checkpoint=_place(file.tell()))
        if len(events) < BATCH_LINES:
            await asyncio.sleep(POLL_SECONDS)


def _place(offset: int) -> Position:
    """Between two lines. All have the same number of digits, so they sort as strings in log order."""
    id = f"{offset:015d}"
    return Position(id, id, exact=False)


def _go_to_line_end(file: BinaryIO, offset: int) -> bool:
    """Go to an offset, and tell whether a line ends there (or the first one begins)."""
    if offset > file.seek(0, os.SEEK_END):
        return False
    file.seek(max(0, offset - 1))
    return offset == 0 or file.read(1) == b"\n"


def _go_to_last_line_end(file: BinaryIO) -> None:
    offset = file.seek(0, os.SEEK_END)
    while not _go_to_line_end(file, offset):
        offset -= 1


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        asyncio.run(serve(Settings(port=int(sys.argv[2])), LineSource(Path(sys.argv[1]))))
    except BrookError as error:
        sys.exit(str(error))
