"""The division of the process's open files among streams, short requests and a reserve."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import time

from brook.errors import TooManyConnections

log = logging.getLogger(__name__)

# Reserved for MongoDB's connections after an election, for replays, and for the files of the page. The driver
# has two connections to each member, and one for each thread that reads.
RESERVED = 64

# Reserved for requests that are answered at once, such as /healthz, and for the refusal of a stream.
REQUESTS = 16

# Time without a refusal before the log says that there is room. A refused browser returns sooner: a shorter
# time would log a line at each of its tries.
QUIET_SECONDS = 15.0

_FULL = "as many clients as this server may have are connected"


class Descriptors:
    """The limits, as descriptor numbers. Each is the first number that is too high.

    The system assigns the lowest free number, so the number of a new descriptor tells how many are open.
    """

    def __init__(self, limit: int, quiet_seconds: float = QUIET_SECONDS) -> None:
        self._limit = limit
        self._quiet_seconds = quiet_seconds
        self._refused_at = 0.0
        # For a small limit, a quarter and an eighth of it.
        self.requests = limit - min(RESERVED, limit // 4)
        """From this number on, no connection is accepted."""
        self.streams = self.requests - min(REQUESTS, limit // 8)
        """From this number on, requests are answered, and streams refused."""
        self.used_up = False
        """True if a client was refused within the last `quiet_seconds`."""

    @classmethod
    def of_this_process(cls) -> Descriptors:
        """Return the limits of the operating system."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return cls(soft)

    def has_room(self) -> bool:
        """True if one more connection may be accepted. Opens a file to find out: there is no other way."""
        try:
            number = os.open(os.devnull, os.O_RDONLY)
        except OSError:
            return False
        os.close(number)
        return number < self.requests

    def check(self, number: int) -> None:
        """Raise TooManyConnections if this descriptor is too high for a stream."""
        if number >= self.streams:
            self.refuse()
            raise TooManyConnections(f"{_FULL}; come again later")

    def refuse(self) -> None:
        """Note a refusal. The log has one line at the first, and one when there is room again."""
        self._refused_at = time.monotonic()
        if not self.used_up:
            self.used_up = True
            log.warning(
                "new clients are refused: clients use %d of the %d files that this process may open "
                "(LimitNOFILE, ulimit -n); they are accepted again when some have left",
                self.streams,
                self._limit,
            )
            self._look_again(self._quiet_seconds)

    def reasons(self) -> list[str]:
        """Return the reasons to send new clients elsewhere; empty if there are none."""
        return [_FULL] if self.used_up else []

    def _look_again(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        quiet_in = self._refused_at + self._quiet_seconds - time.monotonic()
        if quiet_in > 0:
            self._look_again(quiet_in)
        else:
            self.used_up = False
            log.info("new clients are accepted again")
