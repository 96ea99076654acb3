"""The live subscribers by subscription, and an index from an event to the groups that it may concern."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, MutableMapping, Sequence
from typing import Any

from brook.delivery.connection import Framing
from brook.delivery.fanout import Fanout
from brook.delivery.subscriber import Subscriber
from brook.delivery.views import View
from brook.event import DecodedEvent
from brook.subscription import Bundle, Subscription, Wanted


class Group:
    """The live subscribers of one subscription or bundle, by framing, and its view of the log.

    The group of a part of bundles has no subscribers: `bundles` has the groups of the bundles instead.
    """

    __slots__ = ("_view", "bundles", "fanouts", "subscription")

    def __init__(self, subscription: Wanted, view: View | None) -> None:
        self.subscription = subscription
        self._view = view
        self.fanouts: dict[Framing, Fanout] = {}
        self.bundles: dict[Group, None] = {}

    @property
    def view(self) -> View:
        """The view of the log. The group of a bundle has none: the groups of its parts have."""
        assert self._view is not None
        return self._view

    @property
    def tag(self) -> str:
        """The name of a part in bundles; empty for all others."""
        return "" if isinstance(self.subscription, Bundle) else self.subscription.tag

    def subscribers(self) -> list[Subscriber]:
        """The subscribers of the group."""
        return [each for fanout in self.fanouts.values() for each in (*fanout.idle, *fanout.busy)]


class Groups:
    """All groups with a live subscriber, and the groups of the parts of bundles.

    The index finds a subscription with an equality by the equality's values. So the cost of a change
    grows with the number of groups that it concerns, not with the number of all groups.
    """

    def __init__(self, view_of: Callable[[Subscription], View]) -> None:
        self._view_of = view_of
        self._groups: dict[Wanted, Group] = {}
        self._scanned: dict[int, dict[Group, None]] = {}
        """Groups without an equality, by recipient. Every event is matched against each of them."""
        self._live: dict[Subscription, dict[Group, None]] = {}
        """Groups of live mode, by the subscription of their result set."""
        self._indexed: dict[str, dict[Hashable, dict[Group, None]]] = {}
        """Groups with an equality, by path and value."""

    def __bool__(self) -> bool:
        return bool(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[Group]:
        return iter(self._groups.values())

    @property
    def index_entries(self) -> int:
        """Number of entries in the tables that a change is looked up in; 0 if there are no groups."""
        scanned = sum(map(len, self._scanned.values()))
        return scanned + sum(len(groups) for values in self._indexed.values() for groups in values.values())

    def of_result_set(self, subscription: Subscription) -> list[Group]:
        """The groups that show a result set: alone, or as a part of bundles."""
        return list(self._live.get(subscription, ()))

    def fanout_of(self, subscriber: Subscriber) -> Fanout:
        """The fan-out of a live subscriber."""
        return self._groups[subscriber.subscription].fanouts[subscriber.connection.framing]

    def join(self, subscriber: Subscriber, now: float) -> None:
        """Add a live subscriber."""
        group = self._open(subscriber.subscription)
        framing = subscriber.connection.framing
        fanout = group.fanouts.get(framing)
        if fanout is None:
            fanout = group.fanouts[framing] = Fanout(framing, now, subscriber.seen)
        fanout.add(subscriber)

    def leave(self, subscriber: Subscriber) -> None:
        """Remove a live subscriber."""
        group = self._groups[subscriber.subscription]
        fanout = self.fanout_of(subscriber)
        fanout.remove(subscriber)
        if not fanout:
            del group.fanouts[fanout.framing]
        if not group.fanouts:
            self._forget(group)

    def concerned(
        self, recipient: int, events: Sequence[DecodedEvent]
    ) -> dict[Group, Sequence[DecodedEvent]]:
        """The events that may concern each group. Groups without an equality share the whole batch."""
        candidates: dict[Group, Sequence[DecodedEvent]] = dict.fromkeys(
            self._scanned.get(recipient, ()), events
        )
        if recipient or not self._indexed:
            return candidates
        found: dict[Group, list[DecodedEvent]] = {}
        for event in events:
            for group in self._looked_up(event):
                found.setdefault(group, []).append(event)
        return candidates | found

    def _looked_up(self, event: DecodedEvent) -> dict[Group, None]:
        found: dict[Group, None] = {}
        for path, by_value in self._indexed.items():
            values = event.keys(path)
            for value in by_value if values is None else values:
                found.update(by_value.get(value, {}))
        return found

    def _open(self, subscription: Wanted) -> Group:
        """The group of a subscription, and for a bundle those of its parts."""
        group = self._groups.get(subscription)
        if group is not None:
            return group
        if isinstance(subscription, Bundle):
            group = Group(subscription, None)
            for part in subscription.parts:
                self._open(part).bundles[group] = None
        else:
            group = Group(subscription, self._view_of(subscription))
            for place in self._places(subscription):
                place[group] = None
        self._groups[subscription] = group
        return group

    def _places(self, subscription: Subscription) -> list[dict[Group, None]]:
        """The dicts that hold a group: one for each value of its equality, or one of the others."""
        if subscription.is_live:
            return [self._live.setdefault(subscription.core, {})]
        if subscription.index is None:
            return [self._scanned.setdefault(subscription.recipient, {})]
        path, values = subscription.index
        by_value = self._indexed.setdefault(path, {})
        return [by_value.setdefault(value, {}) for value in values]

    def _forget(self, group: Group) -> None:
        """Remove a group, and every dict that it leaves empty: clients choose the values."""
        subscription = group.subscription
        del self._groups[subscription]
        if isinstance(subscription, Bundle):
            for part in subscription.parts:
                of_part = self._groups[part]
                del of_part.bundles[group]
                if not of_part.bundles:
                    self._forget(of_part)
            return
        for place in self._places(subscription):
            del place[group]
        if subscription.is_live:
            prune(self._live, [subscription.core])
        elif subscription.index is None:
            prune(self._scanned, [subscription.recipient])
        else:
            path, values = subscription.index
            prune(self._indexed[path], values)
            prune(self._indexed, [path])


def prune(table: MutableMapping[Any, Any], keys: Iterable[Hashable]) -> None:
    """Delete the entries of a table that have become empty."""
    for key in keys:
        if not table[key]:
            del table[key]
