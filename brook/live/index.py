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
        self._by_value: dict[tuple[str, str], dict[Hashable, Sets]] = {}
        self._by_id: dict[tuple[str, bytes], Sets] = {}
        self._reading: dict[str, Sets] = {}

    def add(self, indexed: Indexed) -> None:
        """Add a set that holds nothing yet."""
        self._all[indexed] = None
        for sets in self._entries(indexed):
            sets[indexed] = None

    def remove(self, indexed: Indexed, keys: Iterable[bytes]) -> None:
        """Remove a set, and the keys that it holds. Leaves no empty dict: clients choose the values."""
        for key in keys:
            self.release(indexed, key)
        self.end_reading(indexed)
        del self._all[indexed]
        for sets in self._entries(indexed):
            del sets[indexed]
        equality = indexed.subscription.index
        if equality is None:
            prune(self._scanned, [indexed.namespace])
        else:
            path = indexed.namespace, equality[0]
            prune(self._by_value[path], equality[1])
            prune(self._by_value, [path])

    def hold(self, indexed: Indexed, key: bytes) -> None:
        """Note that a set holds a document. Needed only for sets with an equality."""
        if indexed.subscription.index is not None:
            self._by_id.setdefault((indexed.namespace, key), {})[indexed] = None

    def release(self, indexed: Indexed, key: bytes) -> None:
        """Note that a set no longer holds a document."""
        holders = self._by_id.get((indexed.namespace, key))
        if holders is not None:
            holders.pop(indexed, None)
            prune(self._by_id, [(indexed.namespace, key)])

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
                    found.update(by_value.get(value, {}))
        found.update(self._by_id.get((namespace, key), {}))
        return found

    def _entries(self, indexed: Indexed) -> list[Sets]:
        """The entries that hold a set, by its equality or by its collection."""
        equality = indexed.subscription.index
        if equality is None:
            return [self._scanned.setdefault(indexed.namespace, {})]
        path, values = equality
        by_value = self._by_value.setdefault((indexed.namespace, path), {})
        return [by_value.setdefault(value, {}) for value in values]
