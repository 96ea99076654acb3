"""The live subscribers by subscription, and an index from an event to the groups that it may concern."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, MutableMapping, Sequence
from typing import Any

from brook.delivery.connection import Framing
from brook.delivery.fanout import Fanout
from brook.delivery.subscriber import Subscriber
from brook.delivery.views import View
from brook.event import DecodedEvent
from brook.subscription import Subscription


class Group:
    """The live subscribers of one subscription, by framing, and its view of the log."""

    __slots__ = ("fanouts", "subscription", "view")

    def __init__(self, subscription: Subscription, view: View) -> None:
        self.subscription = subscription
        self.view = view
        self.fanouts: dict[Framing, Fanout] = {}

    def subscribers(self) -> list[Subscriber]:
        """The subscribers of the group."""
        return [each for fanout in self.fanouts.values() for each in (*fanout.idle, *fanout.busy)]


class Groups:
    """All groups with a live subscriber.

    The index finds a subscription with an equality by the equality's values. So the cost of a change
    grows with the number of groups that it concerns, not with the number of groups.
    """

    def __init__(self, view_of: Callable[[Subscription], View]) -> None:
        self._view_of = view_of
        self._groups: dict[Subscription, Group] = {}
        self._scanned: dict[int, dict[Group, None]] = {}
        """Groups without an equality, by recipient. Every event is matched against each of them."""
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
        """Number of entries in both tables; 0 if there are no groups."""
        scanned = sum(map(len, self._scanned.values()))
        return scanned + sum(len(groups) for values in self._indexed.values() for groups in values.values())

    def get(self, subscription: Subscription) -> Group | None:
        """The group of a subscription; None if it has no live subscriber."""
        return self._groups.get(subscription)

    def fanout_of(self, subscriber: Subscriber) -> Fanout:
        """The fan-out of a live subscriber."""
        return self._groups[subscriber.subscription].fanouts[subscriber.connection.framing]

    def deliveries(
        self, recipient: int, events: Sequence[DecodedEvent]
    ) -> Iterator[tuple[Group, list[bytes]]]:
        """The frames of a batch for each group that it concerns, rendered once per group.

        Each group is rendered in its turn: the frames of thousands of groups together would be thousands
        of times the batch.
        """
        for group, candidates in self._candidates(recipient, events).items():
            # The caller may await between two groups, and every subscriber of this group may have left.
            if group.fanouts and (frames := group.view.frames(candidates)):
                yield group, frames

    def join(self, subscriber: Subscriber, now: float) -> None:
        """Add a live subscriber."""
        subscription = subscriber.subscription
        group = self._groups.get(subscription)
        if group is None:
            group = self._groups[subscription] = Group(subscription, self._view_of(subscription))
            for place in self._places(subscription):
                place[group] = None
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

    def _candidates(
        self, recipient: int, events: Sequence[DecodedEvent]
    ) -> dict[Group, Sequence[DecodedEvent]]:
        """The events that may concern each group. Groups that are scanned share the batch itself."""
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

    def _places(self, subscription: Subscription) -> list[dict[Group, None]]:
        """The dicts that hold a group: one for each value of its equality, or one in `_scanned`.

        None for a result set, which has an index of its own.
        """
        if subscription.is_live:
            return []
        if subscription.index is None:
            return [self._scanned.setdefault(subscription.recipient, {})]
        path, values = subscription.index
        by_value = self._indexed.setdefault(path, {})
        return [by_value.setdefault(value, {}) for value in values]

    def _forget(self, group: Group) -> None:
        """Remove a group, and every dict that it leaves empty: clients choose the values."""
        subscription = group.subscription
        del self._groups[subscription]
        for place in self._places(subscription):
            del place[group]
        if subscription.is_live:
            return
        if subscription.index is None:
            _prune(self._scanned, [subscription.recipient])
        else:
            path, values = subscription.index
            _prune(self._indexed[path], values)
            _prune(self._indexed, [path])


def _prune(places: MutableMapping[Any, Any], keys: Iterable[Hashable]) -> None:
    for key in keys:
        if not places[key]:
            del places[key]
