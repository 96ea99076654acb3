"""The maximum number of connections: of all clients together, and from one address."""

from __future__ import annotations

from collections import Counter

from brook.errors import TooManyConnections
from brook.settings import Settings
from handlers.descriptors import FULL, REQUESTS
from handlers.fullness import Fullness
from handlers.proxies import Proxies, counted_as

_ALL = "new clients are refused: all %d connections are taken (--max-connections)"
_ADDRESS = (
    "new clients of %s are refused: it has the %d connections that an address may have "
    "(--max-connections-per-address); if it is a proxy, name it with --trusted-proxy"
)


class Limits:
    """Counts the streams, and the connections that are not streams (yet).

    A stream over a limit is refused with an answer. The answer takes a connection, so a few more connections
    than streams are accepted, and each further one is closed at once. Connections from this machine and from
    trusted proxies count for the total, and for no address: they are counted as "".
    """

    def __init__(self, settings: Settings) -> None:
        self._max = settings.max_connections
        self._max_per_address = settings.max_connections_per_address
        self._proxies = Proxies(settings.trusted_proxy)
        self._full = Fullness()
        self._address_full = Fullness()
        self._total = 0
        self._streams = 0
        self._total_of: Counter[str] = Counter()
        self._streams_of: Counter[str] = Counter()

    def accept(self, peer: str) -> str | None:
        """Count a connection. Returns the address it counts as, for `leave`; None if it must be closed."""
        address = "" if self._proxies.has(peer) else counted_as(peer)
        if self._total >= self._max + REQUESTS:
            self._full.refuse(_ALL, self._max)
            return None
        if address and self._total_of[address] >= self._max_per_address + REQUESTS:
            self._address_full.refuse(_ADDRESS, address, self._max_per_address)
            return None
        self._total += 1
        _add(self._total_of, address, 1)
        return address

    def leave(self, address: str) -> None:
        """Forget a connection that was closed, or has become a stream."""
        self._total -= 1
        _add(self._total_of, address, -1)

    def check_stream(self, peer: str, forwarded: str | None) -> str:
        """Return the address that a new stream would be counted as. Raises TooManyConnections."""
        address = counted_as(self._proxies.client(peer, forwarded))
        if self._streams >= self._max:
            self._full.refuse(_ALL, self._max)
            raise TooManyConnections(f"{FULL}; retry later")
        if address and self._streams_of[address] >= self._max_per_address:
            self._address_full.refuse(_ADDRESS, address, self._max_per_address)
            raise TooManyConnections(
                f"{self._max_per_address} streams are open from this address: close some first"
            )
        return address

    def enter_stream(self, address: str) -> None:
        """Count a stream, until `leave_stream`."""
        self._streams += 1
        self._total += 1
        _add(self._streams_of, address, 1)
        _add(self._total_of, address, 1)

    def leave_stream(self, address: str) -> None:
        """Forget a stream that has ended."""
        self._streams -= 1
        _add(self._streams_of, address, -1)
        self.leave(address)

    def reasons(self) -> list[str]:
        """Return the reasons to send new clients elsewhere; empty if there are none."""
        return [FULL] if self._full else []


def _add(counts: Counter[str], address: str, number: int) -> None:
    """Add to the count of an address, and forget an address without connections."""
    if address:
        counts[address] += number
        if not counts[address]:
            del counts[address]
