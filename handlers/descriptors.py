"""The division of the process's open files among streams, short requests and a reserve."""

from __future__ import annotations

import os
import resource

from brook.errors import TooManyConnections
from handlers.fullness import QUIET_SECONDS, Fullness

# Reserved for MongoDB's connections after an election, for replays, and for the files of the page. The driver
# has two connections to each member, and one for each thread that reads.
RESERVED = 64

# Reserved for requests that are answered at once, such as /healthz, and for the refusals of streams.
REQUESTS = 16

FULL = "this server has its maximum number of clients"


def allow_many() -> None:
    """Raise the soft limit of open files, usually 1,024, to the hard limit: each client takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Descriptors:
    """The limits, as descriptor numbers. Each is the first number that is too high.

    The system assigns the lowest free number, so the number of a new descriptor shows how many are open.
    """

    def __init__(self, limit: int, quiet_seconds: float = QUIET_SECONDS) -> None:
        self._limit = limit
        self._full = Fullness(quiet_seconds)
        # Of a small limit, a quarter and an eighth are reserved.
        self.requests = limit - min(RESERVED, limit // 4)
        """From this number on, no connection is accepted."""
        self.streams = self.requests - min(REQUESTS, limit // 8)
        """From this number on, requests are answered, and streams refused."""

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
            raise TooManyConnections(f"{FULL}; retry later")

    def refuse(self) -> None:
        """Note a refusal. The log has one line at the first, and one when there is room again."""
        self._full.refuse(
            "new clients are refused: clients use %d of the %d files that this process may open "
            "(LimitNOFILE, ulimit -n); they are accepted again when some have left",
            self.streams,
            self._limit,
        )

    def reasons(self) -> list[str]:
        """Return the reasons to send new clients elsewhere; empty if there are none."""
        return [FULL] if self._full else []
