"""Finds the result sets that an event may concern."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, Protocol

from brook.changes.change import DecodedChange
from brook.delivery.groups import prune
from brook.event import DecodedEvent, Reset
from brook.subscription import Subscription

Sets = dict[Any, None]
"""Result sets, in the order in which they were added."""

Holders = dict[Hashable, Any]
"""The sets of a key: one set, or `Sets` of several. Most keys have one set only, and a dict for each of them
would be most of the memory of a query.
"""


class Indexed(Protocol):
    """A result set, as the index sees it. Hashable by identity."""

    subscription: Subscription
    namespace: str


class Index:
    """Result sets by the values of an equality, and by the `_id`s that they hold.

    The values find a set for the document after a change. Only the `_id` finds it for a document that has
    left: `{"owner": 5}` no longer matches it. A set without an equality is found for every event of its
    collection.
    """

    def __init__(self) -> None:
        self._all: Sets = {}
        self._scanned: dict[str, Sets] = {}
        self._by_value: dict[tuple[str, str], Holders] = {}
        self._by_id: dict[str, Holders] = {}
        self._reading: dict[str, Sets] = {}

    def add(self, indexed: Indexed) -> None:
        """Add a set that holds nothing yet."""
        self._all[indexed] = None
        equality = indexed.subscription.index
        if equality is None:
            self._scanned.setdefault(indexed.namespace, {})[indexed] = None
            return
        path, values = equality
        by_value = self._by_value.setdefault((indexed.namespace, path), {})
        for value in values:
            _add(by_value, value, indexed)

    def remove(self, indexed: Indexed, keys: Iterable[bytes]) -> None:
        """Remove a set, and the keys that it holds. Leaves no empty dict: clients choose the values."""
        for key in keys:
            self.release(indexed, key)
        self.end_reading(indexed)
        del self._all[indexed]
        equality = indexed.subscription.index
        if equality is None:
            del self._scanned[indexed.namespace][indexed]
            prune(self._scanned, [indexed.namespace])
            return
        path = indexed.namespace, equality[0]
        for value in equality[1]:
            _remove(self._by_value[path], value, indexed)
        prune(self._by_value, [path])

    def hold(self, indexed: Indexed, key: bytes) -> None:
        """Note that a set holds a document. Needed only for sets with an equality."""
        if indexed.subscription.index is not None:
            _add(self._by_id.setdefault(indexed.namespace, {}), key, indexed)

    def release(self, indexed: Indexed, key: bytes) -> None:
        """Note that a set no longer holds a document."""
        if indexed.namespace in self._by_id:
            _remove(self._by_id[indexed.namespace], key, indexed)
            prune(self._by_id, [indexed.namespace])

    def begin_reading(self, indexed: Indexed) -> None:
        """Find a set for every event of its collection: its documents are not known yet."""
        self._reading.setdefault(indexed.namespace, {})[indexed] = None

    def end_reading(self, indexed: Indexed) -> None:
        """Find a set by its documents again. Does nothing if it was not being read."""
        reading = self._reading.get(indexed.namespace, {})
        if indexed in reading:
            del reading[indexed]
            prune(self._reading, [indexed.namespace])

    def find(self, event: DecodedEvent, key: bytes) -> Sets:
        """The sets that an event may concern. `key` is the key of its document's `_id`."""
        if isinstance(event, Reset):
            return {each: None for each in self._all if event.matches(each.subscription)}
        found: Sets = {}
        if not isinstance(event, DecodedChange):
            return found
        namespace = event.namespace
        found.update(self._scanned.get(namespace, {}))
        found.update(self._reading.get(namespace, {}))
        for (of, path), by_value in self._by_value.items():
            if of == namespace:
                for value in event.keys(path):
                    found.update(_held(by_value, value))
        found.update(_held(self._by_id.get(namespace, {}), key))
        return found


def _add(holders: Holders, key: Hashable, indexed: Indexed) -> None:
    holder = holders.setdefault(key, indexed)
    if isinstance(holder, dict):
        holder[indexed] = None
    elif holder is not indexed:
        holders[key] = {holder: None, indexed: None}


def _remove(holders: Holders, key: Hashable, indexed: Indexed) -> None:
    """Do nothing if it is not there."""
    holder = holders.get(key)
    if isinstance(holder, dict):
        holder.pop(indexed, None)
    if holder is indexed or holder == {}:
        del holders[key]


def _held(holders: Holders, key: Hashable) -> Sets:
    holder = holders.get(key, {})
    return holder if isinstance(holder, dict) else {holder: None}
