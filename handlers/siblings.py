"""The link between the processes of one server: each asks the others for their metrics.

They use Unix sockets in a private folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

# Maximum time to wait for another process. If it is busy with a large document, its series are missing once.
ANSWER_SECONDS = 2.0

# The metrics of one process have some 20 kB.
MAX_BYTES = 4 * 1024 * 1024


def siblings(count: int, stack: contextlib.ExitStack) -> Callable[[int], Siblings]:
    """Return a function from the number of a process to its link to the other processes."""
    if count == 1:
        return lambda number: Siblings()
    # `Siblings.close` of the last process also removes the folder: the parent may have been killed.
    folder = tempfile.TemporaryDirectory(prefix="brook-metrics-", ignore_cleanup_errors=True)
    path = Path(stack.enter_context(folder))
    return lambda number: Siblings(path, number, count)


class Siblings:
    """One of `count` processes that share a folder. Each listens at a socket named after its number."""

    def __init__(self, folder: Path | None = None, number: int = 0, count: int = 1) -> None:
        self._folder = folder
        self.number = number
        self.count = count if folder is not None else 1
        self._server: asyncio.Server | None = None

    async def open(self, own: Callable[[], Any]) -> None:
        """Answer each sibling with the value of `own` as JSON. Does nothing without siblings."""
        if self._folder is None:
            return
        path = self._path(self.number)
        # A process that was killed has left its socket.
        path.unlink(missing_ok=True)

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                writer.write(json.dumps(own()).encode())
                await writer.drain()
            writer.close()

        self._server = await asyncio.start_unix_server(answer, path)

    async def others(self) -> dict[int, Any]:
        """The values of the other processes by number; None for one that does not answer."""
        numbers = [number for number in range(self.count) if number != self.number]
        values = await asyncio.gather(*map(self._ask, numbers))
        return dict(zip(numbers, values, strict=True))

    def close(self) -> None:
        """Stop answering. The last process removes the folder: the parent may be dead."""
        if self._folder is None or self._server is None:
            return
        self._server.close()
        with contextlib.suppress(OSError):
            self._path(self.number).unlink()
            self._folder.rmdir()

    async def _ask(self, number: int) -> Any:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self._path(number), limit=MAX_BYTES)
                try:
                    return json.loads(await reader.read(-1))
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError) as error:
            log.warning("process %d has not sent its metrics: %s", number, type(error).__name__)
            return None

    def _path(self, number: int) -> Path:
        assert self._folder is not None
        return self._folder / f"{number}.sock"
