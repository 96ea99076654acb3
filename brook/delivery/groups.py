"""The live subscribers, by what they asked for, and who of them an event concerns."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, MutableMapping, Sequence
from typing import Any

from brook.delivery.fanout import Members
from brook.delivery.subscriber import Subscriber, Wrap
from brook.event import OpenEvent
from brook.subscription import Subscription


class Group:
    """The subscribers of one subscription, by framing."""

    __slots__ = ("members", "subscription")

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.members: dict[Wrap, Members] = {}


class Groups:
    """Who is live.

    A subscription that asks for certain values of a field is looked up by them, so that the cost of
    a change grows with those whom it concerns, not with those who are there.
    """

    def __init__(self) -> None:
        self._groups: dict[Subscription, Group] = {}
        self._scanned: dict[int, dict[Group, None]] = {}
        """Those that must be asked about every event, by audience."""
        self._indexed: dict[str, dict[Hashable, dict[Group, None]]] = {}
        """Those that need not: by the path of a field, and the values that they ask for."""

    def __bool__(self) -> bool:
        return bool(self._groups)

    def __iter__(self) -> Iterator[Group]:
        return iter(self._groups.values())

    def of(self, subscriber: Subscriber) -> Members:
        """The members that a live subscriber is one of."""
        return self._groups[subscriber.subscription].members[subscriber.connection.wrap]

    def deliveries(self, audience: int, events: Sequence[OpenEvent]) -> Iterator[tuple[Group, list[bytes]]]:
        """What a batch is for each group that it concerns: frames, rendered once a group.

        Each is rendered when its turn comes: for thousands of groups, all of them together would be
        thousands of times the batch.
        """
        for group, asked in self._candidates(audience, events).items():
            if frames := [frame for event in asked if (frame := event.frame(group.subscription))]:
                yield group, frames

    def join(self, subscriber: Subscriber, now: float) -> None:
        """Make a subscriber live."""
        subscription = subscriber.subscription
        group = self._groups.get(subscription)
        if group is None:
            group = self._groups[subscription] = Group(subscription)
            for place in self._places(subscription):
                place[group] = None
        wrap = subscriber.connection.wrap
        members = group.members.get(wrap)
        if members is None:
            members = group.members[wrap] = Members(wrap, now, subscriber.seen)
        members.add(subscriber)

    def leave(self, subscriber: Subscriber) -> None:
        """Make a live subscriber one no more."""
        group = self._groups[subscriber.subscription]
        members = self.of(subscriber)
        members.remove(subscriber)
        if not members:
            del group.members[members.wrap]
        if not group.members:
            self._forget(group)

    def _candidates(self, audience: int, events: Sequence[OpenEvent]) -> dict[Group, Sequence[OpenEvent]]:
        """The events that each group may want. Those that are scanned share the batch itself."""
        candidates: dict[Group, Sequence[OpenEvent]] = dict.fromkeys(self._scanned.get(audience, ()), events)
        if audience or not self._indexed:
            return candidates
        found: dict[Group, list[OpenEvent]] = {}
        for event in events:
            for group in self._looked_up(event):
                found.setdefault(group, []).append(event)
        return candidates | found

    def _looked_up(self, event: OpenEvent) -> dict[Group, None]:
        found: dict[Group, None] = {}
        for path, by_value in self._indexed.items():
            values = event.keys(path)
            for value in by_value if values is None else values:
                found.update(by_value.get(value, {}))
        return found

    def _places(self, subscription: Subscription) -> list[dict[Group, None]]:
        """Where a group is found: under each of the values that it asks for, or among the scanned."""
        if subscription.index is None:
            return [self._scanned.setdefault(subscription.audience, {})]
        path, values = subscription.index
        by_value = self._indexed.setdefault(path, {})
        return [by_value.setdefault(value, {}) for value in values]

    def _forget(self, group: Group) -> None:
        """Remove a group, and every place that is empty without it: clients choose the values."""
        subscription = group.subscription
        del self._groups[subscription]
        for place in self._places(subscription):
            del place[group]
        if subscription.index is None:
            _prune(self._scanned, [subscription.audience])
        else:
            path, values = subscription.index
            _prune(self._indexed[path], values)
            _prune(self._indexed, [path])


def _prune(places: MutableMapping[Any, Any], keys: Iterable[Hashable]) -> None:
    for key in keys:
        if not places[key]:
            del places[key]
