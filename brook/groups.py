"""The live subscribers, by what makes their bytes the same."""

from __future__ import annotations

from collections.abc import Iterable

from brook.event import Subscription
from brook.subscriber import Subscriber, Wrap


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
    """Who is live. Members' counts are kept once a group: nothing is counted per delivery."""

    def __init__(self) -> None:
        self._by_audience: dict[int, dict[tuple[Subscription, Wrap], Group]] = {}

    def hearing(self, audience: int) -> Iterable[Group]:
        """The groups to which a batch for this audience goes."""
        return self._by_audience.get(audience, {}).values()

    def of(self, subscriber: Subscriber) -> Group:
        """The group of a live subscriber."""
        subscription, wrap = subscriber.subscription, subscriber.connection.wrap
        return self._by_audience[subscription.audience][subscription, wrap]

    def join(self, subscriber: Subscriber) -> None:
        """Make a subscriber live."""
        subscription, wrap = subscriber.subscription, subscriber.connection.wrap
        groups = self._by_audience.setdefault(subscription.audience, {})
        group = groups.setdefault((subscription, wrap), Group(subscription, wrap))
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
            groups = self._by_audience[group.subscription.audience]
            del groups[group.subscription, group.wrap]
            if not groups:
                del self._by_audience[group.subscription.audience]
