"""Who gets the process's open files: streams, short requests, and what has to work whatever comes."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import time

from brook.errors import TooManyConnections

log = logging.getLogger(__name__)

# Kept free of clients: for MongoDB's connections after an election, for replays, and for files of the page.
# The driver has two connections to each member, and one for each thread that reads.
RESERVED = 64

# For requests that are answered at once, such as /healthz, and for streams that are refused with a reason.
REQUESTS = 16

# Nobody was refused for so long: longer than a refused browser waits, or the log would tell each time.
QUIET_SECONDS = 15.0

_FULL = "as many clients as this server may have are connected"


class Descriptors:
    """The limits, as descriptor numbers. As the system gives the lowest free one, it says how many are open.

    Each is the first number that is too high.
    """

    def __init__(self, limit: int, quiet_seconds: float = QUIET_SECONDS) -> None:
        self._limit = limit
        self._quiet_seconds = quiet_seconds
        self._refused_at = 0.0
        # A quarter and an eighth of a limit that is small.
        self.requests = limit - min(RESERVED, limit // 4)
        """From this number on, nobody is accepted."""
        self.streams = self.requests - min(REQUESTS, limit // 8)
        """From this number on, requests are answered, and streams refused."""
        self.used_up = False
        """Somebody was refused within the last `quiet_seconds`."""

    @classmethod
    def of_this_process(cls) -> Descriptors:
        """The limits that the system sets."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return cls(soft)

    def has_room(self) -> bool:
        """Whether one more may be accepted: only taking a descriptor can tell."""
        try:
            number = os.open(os.devnull, os.O_RDONLY)
        except OSError:
            return False
        os.close(number)
        return number < self.requests

    def check(self, number: int) -> None:
        """Raise TooManyConnections unless a stream may have this descriptor."""
        if number >= self.streams:
            self.refuse()
            raise TooManyConnections(f"{_FULL}; come again later")

    def refuse(self) -> None:
        """Note that somebody was refused; the log says so once, and once when it has passed."""
        self._refused_at = time.monotonic()
        if not self.used_up:
            self.used_up = True
            log.warning(
                "no more clients are let in: %d of the %d files that this process may open are theirs "
                "(LimitNOFILE, ulimit -n); it goes on when some have left",
                self.streams,
                self._limit,
            )
            self._look_again(self._quiet_seconds)

    def reasons(self) -> list[str]:
        """The reasons to send new clients elsewhere; empty when there are none."""
        return [_FULL] if self.used_up else []

    def _look_again(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        quiet_in = self._refused_at + self._quiet_seconds - time.monotonic()
        if quiet_in > 0:
            self._look_again(quiet_in)
        else:
            self.used_up = False
            log.info("there is room for clients again")
