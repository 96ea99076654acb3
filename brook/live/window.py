"""The content of a sorted result set: the first documents of an order, and some spare ones after them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from brook.live.frames import Renderer
from brook.live.members import Holder, Key, Touched, key_of
from brook.query.sort import Place, Sort
from brook.subscription import Subscription

# Minimum number of documents kept after the window. One of them replaces a document that leaves, without a
# read.
SPARE = 20

# In "before", null is the end: it cannot name the document whose `_id` is null.
NULL = "null"

_place = attrgetter("place")


def capacity(limit: int) -> int:
    """Number of documents that a window with this limit holds."""
    return limit + max(SPARE, limit // 2)


@dataclass(slots=True, eq=False)
class Entry:
    """One document of a window."""

    place: Place
    key: Key
    id: str
    text: str
    """Empty if it is never sent again: without a limit, no document waits after the window."""
    digest: bytes

    def shows_as(self, other: Entry) -> bool:
        """True if a client would see no difference."""
        return self.digest == other.digest and self.place == other.place


class Window:
    """The documents of a `sort`, in order, as far as they are known; the first `limit` are shown.

    Every matching document up to `_edge` is held. After it there may be more, which are not known: the
    collection is read again when fewer than `limit` are left. Without a limit, every match is held.
    """

    def __init__(self, subscription: Subscription, renderer: Renderer) -> None:
        assert subscription.sort is not None
        self._selects = subscription.selects
        self._sort: Sort = subscription.sort
        self._limit = subscription.limit
        self._capacity = capacity(subscription.limit) if subscription.limit else None
        self._renderer = renderer
        self._entries: list[Entry] = []
        self._by_key: dict[Key, Entry] = {}
        self._edge: Place | None = None
        """The place of the last known document; None if all are known."""

    def __len__(self) -> int:
        return min(len(self._entries), self._limit or len(self._entries))

    def held(self) -> Iterator[Key]:
        return iter(self._by_key)

    def holds(self, key: Key) -> bool:
        return key in self._by_key

    def add(self, document: dict[str, Any]) -> str | None:
        entry = self._insert(key_of(document["_id"]), document)
        text = entry.text
        self._drop_text(entry)
        return text if not self._limit or len(self._entries) <= self._limit else None

    def finish(self, read: int) -> None:
        if self._capacity is not None and read >= self._capacity and self._entries:
            # More may follow.
            self._edge = self._entries[-1].place

    def apply(self, touched: Mapping[Key, Touched], holder: Holder) -> Sequence[str] | None:
        before = self._shown(touched)
        held = set(self._by_key)
        for key, each in touched.items():
            self._remove(key)
            document = each.document
            if document is not None and self._includes(document):
                self._insert(key, document)
        self._trim()
        for key in held - self._by_key.keys():
            holder.release(key)
        for key in self._by_key.keys() - held:
            holder.hold(key)
        if self._edge is not None and self._limit and len(self._entries) < self._limit:
            return None
        return self._difference(before, self._shown(touched), touched)

    def _includes(self, document: dict[str, Any]) -> bool:
        """True if a document matches, and is not after `_edge`."""
        if not self._selects(document):
            return False
        return self._edge is None or not self._edge < self._sort.place(document)

    def _shown(self, touched: Mapping[Key, Touched]) -> dict[Key, Entry]:
        """The documents that a client sees; without a limit, only the ones that a batch touches."""
        if self._limit:
            return {entry.key: entry for entry in self._entries[: self._limit]}
        return {key: entry for key in touched if (entry := self._by_key.get(key)) is not None}

    def _insert(self, key: Key, document: dict[str, Any]) -> Entry:
        rendering = self._renderer.document(document)
        id = self._renderer.id(document["_id"])
        entry = Entry(self._sort.place(document), key, id, rendering.text, rendering.digest)
        insort(self._entries, entry, key=_place)
        self._by_key[key] = entry
        return entry

    def _remove(self, key: Key) -> None:
        entry = self._by_key.pop(key, None)
        if entry is not None:
            del self._entries[self._index(entry)]

    def _index(self, entry: Entry) -> int:
        index = bisect_left(self._entries, entry.place, key=_place)
        assert self._entries[index] is entry
        return index

    def _trim(self) -> None:
        if self._capacity is None or len(self._entries) <= self._capacity:
            return
        for entry in self._entries[self._capacity :]:
            del self._by_key[entry.key]
        del self._entries[self._capacity :]
        self._edge = self._entries[-1].place

    def _difference(
        self, before: Mapping[Key, Entry], after: Mapping[Key, Entry], touched: Mapping[Key, Touched]
    ) -> list[str]:
        """The changes that lead from one order to another, to be applied one after the other.

        Removals come first. Upserts go from the end to the beginning, so that the document that an upsert has
        in `before` is already in its place.
        """
        texts = []
        for key in before.keys() - after.keys():
            each = touched.get(key)
            # A document that the batch did not touch was pushed out by another one.
            why = "leave" if each is None else each.why_removed
            texts.append(f'{{"op":"remove","why":"{why}","id":{before[key].id}}}')
        for entry in sorted(after.values(), key=_place, reverse=True):
            was = before.get(entry.key)
            if was is not None and entry.shows_as(was):
                continue
            each = touched.get(entry.key)
            why = "enter" if each is None else each.why_shown(held=was is not None)
            texts += self._placed(entry, why)
            self._drop_text(entry)
        return texts

    def _drop_text(self, entry: Entry) -> None:
        """Drop the text if it is never sent again: without a limit, unless the `_id` is null (`_placed`)."""
        if not self._limit and entry.id != NULL:
            entry.text = ""

    def _placed(self, entry: Entry, why: str) -> Iterator[str]:
        """The changes that put a document in its place.

        `before` cannot name the document whose `_id` is null. To go in front of that document, an entry goes
        behind it, and then that document moves behind the entry.
        """
        following = self._following(entry)
        if following is not None and following.id == NULL:
            beyond = self._following(following)
            yield _upsert(entry, why, beyond)
            yield _upsert(following, "update", beyond)
        else:
            yield _upsert(entry, why, following)

    def _following(self, entry: Entry) -> Entry | None:
        """The next document that is shown."""
        index = self._index(entry) + 1
        return self._entries[index] if index < len(self) else None


def _upsert(entry: Entry, why: str, following: Entry | None) -> str:
    before = NULL if following is None else following.id
    return f'{{"op":"upsert","why":"{why}","id":{entry.id},"doc":{entry.text},"before":{before}}}'
