"""The number of connections that clients may have: in all, and from one address."""

from __future__ import annotations

from collections import Counter

from brook.errors import TooManyConnections
from brook.settings import Settings
from handlers.descriptors import FULL, REQUESTS
from handlers.fullness import Fullness
from handlers.proxies import Proxies, counted

_ALL = "new clients are refused: all %d connections are taken (--max-connections)"
_ADDRESS = (
    "new clients of %s are refused: it has the %d connections that an address may have "
    "(--max-connections-per-address); if it is a proxy, name it with --trusted-proxy"
)


class Limits:
    """Counts the streams, and the connections that are no stream (yet).

    A stream over a limit is refused in words. That takes a connection, so some more of these are accepted,
    and each further one is closed at once. Connections from this machine and from proxies count in all, and
    not for their address.
    """

    def __init__(self, settings: Settings) -> None:
        self._most = settings.max_connections
        self._most_of_one = settings.max_connections_per_address
        self._proxies = Proxies(settings.trusted_proxy)
        self._full = Fullness()
        self._one_is_full = Fullness()
        self._total = 0
        self._streams = 0
        self._total_of: Counter[str] = Counter()
        self._streams_of: Counter[str] = Counter()

    def accept(self, peer: str) -> str | None:
        """Count a connection, and return its place for `leave`. None if it has to be closed."""
        place = "" if self._proxies.has(peer) else counted(peer)
        if self._total >= self._most + REQUESTS:
            self._full.refuse(_ALL, self._most)
            return None
        if place and self._total_of[place] >= self._most_of_one + REQUESTS:
            self._one_is_full.refuse(_ADDRESS, place, self._most_of_one)
            return None
        self._total += 1
        _add(self._total_of, place, 1)
        return place

    def leave(self, place: str) -> None:
        """Forget a connection that was closed, or has become a stream."""
        self._total -= 1
        _add(self._total_of, place, -1)

    def client(self, peer: str, forwarded: str | None) -> str:
        """The place of a client that asks for a stream. Raises TooManyConnections if it may have no more."""
        place = counted(self._proxies.client(peer, forwarded))
        if self._streams >= self._most:
            self._full.refuse(_ALL, self._most)
            raise TooManyConnections(f"{FULL}; come again later")
        if place and self._streams_of[place] >= self._most_of_one:
            self._one_is_full.refuse(_ADDRESS, place, self._most_of_one)
            raise TooManyConnections(
                f"{self._most_of_one} streams are open from this address: close some first"
            )
        return place

    def enter_stream(self, place: str) -> None:
        """Count a stream, until `leave_stream`."""
        self._streams += 1
        self._total += 1
        _add(self._streams_of, place, 1)
        _add(self._total_of, place, 1)

    def leave_stream(self, place: str) -> None:
        """Forget a stream that has ended."""
        self._streams -= 1
        _add(self._streams_of, place, -1)
        self.leave(place)

    def reasons(self) -> list[str]:
        """Return the reasons to send new clients elsewhere; empty if there are none."""
        return [FULL] if self._full else []


def _add(counts: Counter[str], place: str, number: int) -> None:
    """Count for a place. One without connections takes no memory."""
    if place:
        counts[place] += number
        if not counts[place]:
            del counts[place]
