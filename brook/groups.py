"""The live subscribers, by what makes their bytes the same, and who of them an event concerns."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

from brook.event import OpenEvent
from brook.subscriber import Subscriber, Wrap
from brook.subscription import Subscription


class Group:
    """Subscribers that get the same bytes, and what these came to since the group exists."""

    __slots__ = ("bytes", "events", "last_key", "members", "subscription", "wrap")

    def __init__(self, subscription: Subscription, wrap: Wrap) -> None:
        self.subscription = subscription
        self.wrap = wrap
        self.members: dict[Subscriber, None] = {}
        self.events = 0
        self.bytes = 0
        self.last_key = ""


class Groups:
    """Who is live. Members' counts are kept once a group: nothing is counted per delivery.

    A subscription that asks for certain values of a field is looked up by them, so that the cost of
    a change grows with those whom it concerns, not with those who are there.
    """

    def __init__(self) -> None:
        self._groups: dict[int, dict[tuple[Subscription, Wrap], Group]] = {}
        """All, by audience."""
        self._scanned: dict[int, dict[Group, None]] = {}
        """Those that must be asked about every event, by audience."""
        self._indexed: dict[str, dict[Hashable, dict[Group, None]]] = {}
        """Those that need not: by the path of a field, and the values that they ask for."""

    def __bool__(self) -> bool:
        return bool(self._groups)

    def frames(self, audience: int, events: Sequence[OpenEvent]) -> dict[Group, list[bytes]]:
        """What a batch is for each group that it concerns, rendered once a group."""
        frames: dict[Group, list[bytes]] = {}
        for event in events:
            for group in self._concerned(audience, event):
                if frame := event.frame(group.subscription):
                    frames.setdefault(group, []).append(frame)
        return frames

    def _concerned(self, audience: int, event: OpenEvent) -> Iterable[Group]:
        """The groups that want an event, and maybe others."""
        scanned = self._scanned.get(audience, {})
        if not self._indexed:
            return scanned
        found = dict(scanned)
        for path, by_value in self._indexed.items():
            keys = event.keys(path)
            for key in by_value if keys is None else keys:
                found.update(by_value.get(key, {}))
        return found

    def of(self, subscriber: Subscriber) -> Group:
        """The group of a live subscriber."""
        subscription, wrap = subscriber.subscription, subscriber.connection.wrap
        return self._groups[subscription.audience][subscription, wrap]

    def join(self, subscriber: Subscriber) -> None:
        """Make a subscriber live."""
        subscription, wrap = subscriber.subscription, subscriber.connection.wrap
        groups = self._groups.setdefault(subscription.audience, {})
        group = groups.get((subscription, wrap))
        if group is None:
            group = groups[subscription, wrap] = Group(subscription, wrap)
            for place in self._places(group):
                place[group] = None
        group.members[subscriber] = None
        # What came before does not count; `leave` adds up to then.
        subscriber.events -= group.events
        subscriber.bytes -= group.bytes

    def leave(self, subscriber: Subscriber) -> None:
        """Make a live subscriber one no more, and give it its counts."""
        group = self.of(subscriber)
        del group.members[subscriber]
        subscriber.events += group.events
        subscriber.bytes += group.bytes
        subscriber.seen = max(subscriber.seen, group.last_key)
        if not group.members:
            self._forget(group)

    def _forget(self, group: Group) -> None:
        subscription = group.subscription
        for place in self._places(group):
            del place[group]
        del self._groups[subscription.audience][subscription, group.wrap]
        if not self._groups[subscription.audience]:
            del self._groups[subscription.audience]
        # What is empty is removed too: a client's values must not stay behind.
        if (index := subscription.index) is None:
            if not self._scanned[subscription.audience]:
                del self._scanned[subscription.audience]
            return
        path, keys = index
        for key in keys:
            if not self._indexed[path][key]:
                del self._indexed[path][key]
        if not self._indexed[path]:
            del self._indexed[path]

    def _places(self, group: Group) -> list[dict[Group, None]]:
        """Where a group is found: under each of the values that it asks for, or among the scanned."""
        index = group.subscription.index
        if index is None:
            return [self._scanned.setdefault(group.subscription.audience, {})]
        path, keys = index
        by_value = self._indexed.setdefault(path, {})
        return [by_value.setdefault(key, {}) for key in keys]
