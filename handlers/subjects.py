"""The maximum number of streams and of distinct subscriptions of one subject."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from brook.admission import Lease
from brook.errors import TooManyConnections
from brook.settings import Settings
from brook.subscription import Bundle, Subscription, Wanted

_NONE: Mapping[Subscription, int] = {}


class Subjects:
    """Counts the streams of each subject (the claim `sub`). A client without one only counts by address."""

    def __init__(self, settings: Settings) -> None:
        self._max = settings.max_connections_per_subject
        self._max_distinct = settings.max_subscriptions_per_subject
        self._streams: Counter[str] = Counter()
        self._subscriptions: dict[str, dict[Subscription, int]] = {}

    def check(self, lease: Lease | None, wanted: Wanted) -> None:
        """Raise TooManyConnections if a client's subject may have no more of these."""
        if lease is None or not lease.subject:
            return
        if self._streams[lease.subject] >= self._max:
            raise TooManyConnections(f"{self._max} streams are open for you: close some first")
        own, parts = self._subscriptions.get(lease.subject, _NONE), _parts(wanted)
        if len(own) + len(parts) <= self._max_distinct:
            return
        added = sum(1 for part in parts if part not in own)
        if added and len(own) + added > self._max_distinct:
            raise TooManyConnections(
                f"{len(own)} different subscriptions are open for you, of at most {self._max_distinct}: "
                "close some first"
            )

    def enter(self, lease: Lease | None, wanted: Wanted) -> None:
        """Count a stream, until `leave`."""
        if lease is not None and lease.subject:
            self._streams[lease.subject] += 1
            own = self._subscriptions.setdefault(lease.subject, {})
            for part in _parts(wanted):
                own[part] = own.get(part, 0) + 1

    def leave(self, lease: Lease | None, wanted: Wanted) -> None:
        """Forget a stream that has ended."""
        if lease is None or not lease.subject:
            return
        own = self._subscriptions[lease.subject]
        for part in _parts(wanted):
            own[part] -= 1
            if not own[part]:
                del own[part]
        self._streams[lease.subject] -= 1
        if not self._streams[lease.subject]:
            # A subject without streams takes no memory.
            del self._streams[lease.subject], self._subscriptions[lease.subject]


def _parts(wanted: Wanted) -> tuple[Subscription, ...]:
    return wanted.parts if isinstance(wanted, Bundle) else (wanted,)
