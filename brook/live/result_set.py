"""The content of one live subscription, and the events that keep the copies of its clients up to date."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from brook.changes.change import DecodedChange
from brook.event import DecodedEvent, Position, Reset, ResetReason
from brook.live import frames
from brook.live.frames import Message
from brook.live.index import Index
from brook.live.members import Collected, Key, Members, Touched, key_of
from brook.live.window import Window
from brook.subscription import Mode, Subscription

# Bounds of the record: the events of the last batches, for clients that come back.
RECORD_BYTES = 256 * 1024
RECORD_BATCHES = 1000

# Bound on the postponed changes. Beyond it, a snapshot for which they wait begins anew, and a pace for which
# they wait is not kept.
PENDING_BYTES = 8 * 1024 * 1024

# Maximum number of changed documents that are sent from the history. A snapshot is shorter than more of them.
MAX_MISSED = 1000


@dataclass(frozen=True, slots=True)
class Arrived:
    """The part of a batch that may concern a result set."""

    first: str
    """The key of the batch's first event."""
    position: Position
    """The end of the batch."""
    events: Sequence[DecodedEvent]

    @property
    def size(self) -> int:
        """Approximate bytes held."""
        return sum(event.size for event in self.events if isinstance(event, DecodedChange))


@dataclass(frozen=True, slots=True)
class Recorded:
    """The event of one batch, or of several at a slow pace; `message` is None if nothing was sent."""

    number: int
    first: str
    position: Position
    message: Message | None


class ResultSet:
    """The content of one live subscription, kept once for all of its clients.

    The content is unknown at first, is then read once, and then follows each batch.
    """

    __slots__ = (
        "_index", "_pending", "_pending_bytes", "_pending_keys", "_record", "_record_bytes", "_record_start",
        "content", "flushed", "namespace", "number", "reading", "reason", "renderer", "subscription",
    )  # fmt: skip

    def __init__(self, subscription: Subscription, index: Index) -> None:
        self.subscription = subscription
        self.namespace = next(iter(subscription.namespaces or ()))
        self.renderer = frames.Renderer(subscription)
        self.content: Collected | None = None
        """None until the first snapshot is complete."""
        self.reason: ResetReason | None = None
        """The reason why the set had to be read again."""
        self.reading = False
        """True while the first snapshot is being read, and batches are postponed."""
        self.number = 0
        """Number of batches that have concerned the set, and of times that it became unknown."""
        self.flushed = float("-inf")
        """Time of the last event, for a set with a pace of its own."""
        self._index = index
        self._pending: list[Arrived] = []
        self._pending_bytes = 0
        self._pending_keys: dict[Key, None] = {}
        """The documents of the changes that wait for the set's pace. The set may hold them afterwards."""
        self._record: list[Recorded] = []
        self._record_bytes = 0
        self._record_start: Position | None = None

    @property
    def known(self) -> bool:
        """True once the set has been read, and while it can follow the log."""
        return self.content is not None

    @property
    def count(self) -> int:
        """Number of documents that the clients are shown."""
        return len(self.content) if self.content is not None else 0

    @property
    def waiting(self) -> bool:
        """True if changes wait for the set's pace."""
        return self.known and bool(self._pending)

    def collect(self) -> Collected:
        """An empty content, to be filled by a snapshot."""
        kind = Members if self.subscription.sort is None else Window
        return kind(self.subscription, self.renderer)

    def hold(self, key: Key) -> None:
        """Let the index find the set by a document that it holds."""
        self._index.hold(self, key)

    def release(self, key: Key) -> None:
        """Let the index forget a document that the set no longer holds."""
        self._index.release(self, key)

    def held(self) -> Iterable[Key]:
        """The keys by which the index finds the set."""
        return chain(self.content.held() if self.content is not None else (), self._pending_keys)

    # -- the first snapshot ------------------------------------------------------------------------

    def begin(self) -> None:
        """Postpone the batches that follow: a snapshot at the present position is being read."""
        self.reading = True
        self._index.begin_reading(self)
        self._drop_pending()

    def complete(self, at: Position, content: Collected) -> int:
        """Take over the content of a snapshot, then apply the batches since.

        Returns the set's number at the snapshot.
        """
        self.content = content
        for key in content.held():
            self.hold(key)
        self._record_start = at
        self._end_reading()
        self.reason = None
        number = self.number
        pending = self._pending
        self._drop_pending()
        for arrived in pending:
            if self.known:  # a window may have used up its spare documents
                self._apply(arrived)
        return number

    def forget(self, reason: ResetReason | None = None) -> None:
        """Make the content unknown: something happened that the changes do not show."""
        for key in list(self.held()):
            self.release(key)
        self.content = self._record_start = None
        self._end_reading()
        self.reason = reason
        self._drop_pending()
        self._record.clear()
        self._record_bytes = 0
        self.number += 1  # no reader may take the next content for a continuation of this one

    def _end_reading(self) -> None:
        self.reading = False
        self._index.end_reading(self)

    # -- following the log -------------------------------------------------------------------------

    def take(self, arrived: Arrived) -> Message | None:
        """Take a batch. Returns its event; None if it changes nothing for the clients, or not yet.

        A set without content postpones the batch, and so does one with a pace, until `flush`. A set that
        cannot follow the batch forgets its content.
        """
        broken = next((event for event in arrived.events if isinstance(event, Reset)), None)
        if broken is not None:
            self.forget(broken.reason)
            return None
        if not self.known:
            if self.reading and arrived.events:
                self._postpone(arrived)
                if self._pending_bytes > PENDING_BYTES:
                    self.forget(self.reason)
            return None
        if not self.subscription.every_ms:
            return self._apply(arrived)
        self._postpone(arrived)
        return self.flush(arrived.position) if self._pending_bytes > PENDING_BYTES else None

    def flush(self, position: Position) -> Message | None:
        """Apply the changes that wait for the set's pace, at the position up to which all was published."""
        pending = self._pending
        message = None
        if pending and self.known:
            events = [event for each in pending for event in each.events]
            message = self._apply(Arrived(pending[0].first, position, events))
        self._drop_pending()
        return message

    def _postpone(self, arrived: Arrived) -> None:
        self._pending.append(arrived)
        self._pending_bytes += arrived.size
        if self.known and self.subscription.index is not None:
            # Otherwise the index would not find the set when such a document leaves it before the changes are
            # applied, and the document would stay in the set.
            for event in arrived.events:
                if isinstance(event, DecodedChange):
                    key = key_of(event.document_id)
                    self._pending_keys[key] = None
                    self.hold(key)

    def _drop_pending(self) -> None:
        self._pending = []
        self._pending_bytes = 0
        for key in self._pending_keys:
            if self.content is None or not self.content.holds(key):
                self.release(key)
        self._pending_keys.clear()

    def _apply(self, arrived: Arrived) -> Message | None:
        assert self.content is not None
        before = self.count
        texts = self.content.apply(_touched(arrived.events), self)
        if texts is None:
            self.forget()
            return None
        message = None
        if self.subscription.mode is Mode.COUNT:
            if self.count != before:
                message = frames.count(arrived.position, self.count)
        elif texts:
            message = frames.changes(arrived.position, texts)
        self._remember(arrived, message)
        return message

    # -- coming back -------------------------------------------------------------------------------

    def since(self, number: int) -> list[Message] | None:
        """The events after a `number` of the set; None if the record does not reach back so far."""
        if not self.known or self.number - len(self._record) > number:
            return None
        return [each.message for each in self._record if each.number > number and each.message]

    def since_position(self, position: Position) -> list[Message] | None:
        """The events after a position; None if the record does not have them.

        None also if the position is inside a batch, as it can be if another server issued it: the client then
        has a part of the batch, and the record has only one event for all of it.
        """
        if self._record_start is None or position.key < self._record_start.key:
            return None
        following = [each for each in self._record if each.position.key > position.key]
        begun = [*(each.first for each in following), *(each.first for each in self._pending)]
        if any(first <= position.key for first in begun):
            return None
        return [each.message for each in following if each.message]

    def missed(self, now: Position, events: Iterable[DecodedEvent]) -> list[Message] | None:
        """The event for a client whose position is not in the record, made from the history's events.

        Each document that was touched is an upsert if it matches now, otherwise a remove, even if the client
        does not hold it. None if a new snapshot has to be sent. That is so for every order, and for a pace,
        with which the client may lack changes from before its position.
        """
        if self.subscription.mode is Mode.COUNT:
            return []
        if self.subscription.sort is not None or self.subscription.every_ms:
            return None
        first: dict[Key, DecodedChange] = {}
        last: dict[Key, DecodedChange] = {}
        for event in events:
            if isinstance(event, Reset) and event.matches(self.subscription):
                return None
            if isinstance(event, DecodedChange) and event.namespace == self.namespace:
                key = key_of(event.document_id)
                first.setdefault(key, event)
                last[key] = event
            if len(last) > MAX_MISSED:
                return None
        texts = [self._present(first[key], event) for key, event in last.items()]
        if None in texts:
            return None
        shown = [text for text in texts if text]
        return [frames.changes(now, shown)] if shown else []

    def _present(self, first: DecodedChange, event: DecodedChange) -> str | None:
        """The change to the present state of a document, from its first and last event.

        Empty if the client never held it. None if that depends on an access rule and is not known: a `remove`
        would reveal the document's `_id`.
        """
        touched = Touched(event, inserted=False)
        document, rule = touched.document, self.subscription.rule
        if document is None or not self.subscription.selects(document):
            reached = True if rule is None else first.was_in_reach(rule)
            if not reached:
                return None if reached is None else ""
            return self.renderer.remove(touched.why_removed, event.document_id)
        return self.renderer.upsert("update", event.document_id, self.renderer.document(document).text)

    def _remember(self, arrived: Arrived, message: Message | None) -> None:
        self.number += 1
        self._record.append(Recorded(self.number, arrived.first, arrived.position, message))
        self._record_bytes += len(message or ())
        while self._record_bytes > RECORD_BYTES or len(self._record) > RECORD_BATCHES:
            forgotten = self._record.pop(0)
            self._record_bytes -= len(forgotten.message or ())
            self._record_start = forgotten.position


def _touched(events: Iterable[DecodedEvent]) -> dict[Key, Touched]:
    """The documents of a batch, each once, as it is at the end."""
    touched: dict[Key, Touched] = {}
    for event in events:
        if isinstance(event, DecodedChange):
            key = key_of(event.document_id)
            before = touched.pop(key, None)
            inserted = event.operation == "insert" or (before is not None and before.inserted)
            touched[key] = Touched(event, inserted)
    return touched
