"""The documents that one live subscription holds, and the frames that keep its clients' copies true."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import bson

from brook.changes.change import DecodedChange
from brook.event import DecodedEvent, Position, Reset, ResetReason
from brook.live import frames
from brook.live.index import Index
from brook.subscription import Mode, Subscription

# Frames of the last batches, for clients that come back.
RECORD_BYTES = 256 * 1024
RECORD_FRAMES = 1000

# Changes that wait for the end of the first snapshot. Beyond that, the snapshot begins anew.
HELD_BYTES = 8 * 1024 * 1024

# More changes than that are not replayed from the history: a snapshot is shorter.
MAX_MISSED = 1000


Key = bytes
"""The key of an `_id`."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The frame of one batch."""

    number: int
    position: Position
    frame: bytes


class ResultSet:
    """The membership of one live subscription, kept once for all of its clients.

    It knows which documents match, not their content: of each member it keeps the key of its `_id`, and a
    digest of the text that was shown. It is unknown at first, then read once, and then follows each batch.
    """

    def __init__(self, subscription: Subscription, index: Index) -> None:
        self.subscription = subscription
        self._index = index
        self.namespace = next(iter(subscription.namespaces or ()))
        self.renderer = frames.Renderer(subscription)
        self.members: dict[Key, bytes] | None = None
        """Digests by the key of `_id`; None until the first snapshot is complete."""
        self.reason: ResetReason | None = None
        """The reason why the set had to be read again."""
        self.reading = False
        """The first snapshot is being read, and batches are held."""
        self.idle_since: float | None = None
        """The time at which the last client left; None while there is one."""
        self._held: list[tuple[Position, Sequence[DecodedEvent]]] = []
        self._held_bytes = 0
        self._record: deque[Recorded] = deque()
        self._record_bytes = 0
        self._record_start: Position | None = None
        self.frames = 0
        """Number of frames made so far. It numbers the record."""

    # -- becoming true -----------------------------------------------------------------------------

    def begin(self) -> None:
        """Hold the batches that follow: a snapshot at the present position is being read."""
        self.reading = True
        self._held = []
        self._held_bytes = 0

    def complete(self, at: Position, members: dict[Key, bytes]) -> int:
        """Take the snapshot for the membership at a position, then apply the batches since.

        Returns the number of frames before the snapshot.
        """
        self.members = members
        for key in members:
            self._index.hold(self, key)
        self._record_start = at
        self.reading = False
        before = self.frames
        held, self._held = self._held, []
        for position, events in held:
            self.apply(position, events)
        return before

    def forget(self, reason: ResetReason | None = None) -> None:
        """Become unknown: something happened of which the changes do not tell."""
        for key in self.members or ():
            self._index.release(self, key)
        self.members = self._record_start = None
        self.reading = False
        self.reason = reason
        self._held = []
        self._record.clear()
        self._record_bytes = 0

    # -- following the log -------------------------------------------------------------------------

    def apply(self, position: Position, events: Sequence[DecodedEvent]) -> bytes:
        """Apply a batch, and return its frame; empty if it changes nothing for the clients.

        A set that is not known yet holds the batch. A set that cannot follow it any more forgets itself.
        """
        broken = next((event for event in events if isinstance(event, Reset)), None)
        if broken is not None:
            self.forget(broken.reason)
            return b""
        if self.members is None:
            self._hold(position, events)
            return b""
        before = len(self.members)
        texts = self._changes(events)
        if self.subscription.mode is Mode.COUNT:
            frame = frames.count(position, len(self.members)) if len(self.members) != before else b""
        else:
            frame = frames.changes(position, texts) if texts else b""
        if frame:
            self._remember(position, frame)
        return frame

    def _hold(self, position: Position, events: Sequence[DecodedEvent]) -> None:
        if not self.reading or not events:
            return
        self._held.append((position, events))
        self._held_bytes += sum(event.size for event in events if isinstance(event, DecodedChange))
        if self._held_bytes > HELD_BYTES:
            self.forget(self.reason)

    def _changes(self, events: Iterable[DecodedEvent]) -> list[str]:
        """The changes of a batch: each document once, as it is at the end."""
        last: dict[Key, DecodedChange] = {}
        inserted: set[Key] = set()
        for event in events:
            if isinstance(event, DecodedChange):
                key = key_of(event.document_id)
                last.pop(key, None)
                last[key] = event
                if event.operation == "insert":
                    inserted.add(key)
        texts = (self._change(key, event, key in inserted) for key, event in last.items())
        return [text for text in texts if text]

    def _change(self, key: Key, event: DecodedChange, inserted: bool) -> str:
        assert self.members is not None
        held = self.members.get(key)
        document = None if event.operation == "delete" else event.document
        if document is None or not self.matches(document):
            if held is None:
                return ""
            del self.members[key]
            self._index.release(self, key)
            return self.renderer.remove("delete" if document is None else "leave", event.document_id)
        rendering = self.renderer.document(document)
        self.members[key] = rendering.digest
        if held is None:
            self._index.hold(self, key)
        if rendering.digest == held:
            return ""
        if held is None:
            why = "insert" if inserted else "enter"
        else:
            why = "update" if event.operation == "update" and not inserted else "replace"
        return self.renderer.upsert(why, event.document_id, rendering.text)

    def matches(self, document: dict[str, Any]) -> bool:
        """True if a document belongs to the set."""
        return self.subscription.filter is None or self.subscription.filter.matches(document)

    # -- coming back -------------------------------------------------------------------------------

    def frames_since(self, number: int) -> bytes | None:
        """The frames after a number of frames; None if the record does not reach back so far."""
        if self.members is None or self.frames - len(self._record) > number:
            return None
        return b"".join(each.frame for each in self._record if each.number > number)

    def frames_from(self, position: Position) -> bytes | None:
        """The frames from a position on; None if the record does not reach back so far.

        The position's own frame is among them: further changes of the same time may have followed it, and
        applied twice it is the same.
        """
        if self._record_start is None or position.key < self._record_start.key:
            return None
        return b"".join(each.frame for each in self._record if each.position.key >= position.key)

    def missed(self, now: Position, events: Iterable[DecodedEvent]) -> bytes | None:
        """One frame for a client that comes back to a set without a record of its time.

        Each document that was touched is an upsert if it matches now, else a remove, which the client may not
        hold. None if a new snapshot has to be sent.
        """
        if self.subscription.mode is Mode.COUNT:
            return b""
        last: dict[Key, DecodedChange] = {}
        for event in events:
            if isinstance(event, Reset) and event.matches(self.subscription):
                return None
            if isinstance(event, DecodedChange) and event.namespace == self.namespace:
                last[key_of(event.document_id)] = event
            if len(last) > MAX_MISSED:
                return None
        texts = [self._now(event) for event in last.values()]
        return frames.changes(now, texts) if texts else b""

    def _now(self, event: DecodedChange) -> str:
        document = None if event.operation == "delete" else event.document
        if document is None or not self.matches(document):
            return self.renderer.remove("delete" if document is None else "leave", event.document_id)
        return self.renderer.upsert("update", event.document_id, self.renderer.document(document).text)

    def _remember(self, position: Position, frame: bytes) -> None:
        self.frames += 1
        self._record.append(Recorded(self.frames, position, frame))
        self._record_bytes += len(frame)
        while self._record_bytes > RECORD_BYTES or len(self._record) > RECORD_FRAMES:
            forgotten = self._record.popleft()
            self._record_bytes -= len(forgotten.frame)
            self._record_start = forgotten.position


def key_of(id: Any) -> Key:
    """The key of an `_id`, its BSON: so 1 and "1" are two documents."""
    return bson.encode({"": id})
