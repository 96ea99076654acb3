"""Events, resets and batches: the values that travel from a source to the subscribers."""

from __future__ import annotations

import abc
import enum
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from brook import sse
from brook.subscription import Subscription


class ResetReason(enum.StrEnum):
    """The reason why a client must read its data anew: the word in the frame, the log and the docs."""

    HISTORY_LOST = "history-lost"
    INVALID_ID = "invalid-id"
    COLLECTION_DROPPED = "collection-dropped"
    COLLECTION_RENAMED = "collection-renamed"
    DATABASE_DROPPED = "database-dropped"
    OVERSIZED_EVENT = "oversized-event"
    UNREADABLE_EVENT = "unreadable-event"


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A position in a source's log, between two events.

    `key` sorts as a string in log order. `id` is the SSE id, which the client sends back. If `exact`,
    the id names one event, which must exist; otherwise it names a point in time.
    """

    key: str
    id: str = field(compare=False)
    exact: bool = field(compare=False, default=True)
    until: str = field(compare=False, default="")
    """The highest key that the event of the id can have; `key` unless given."""

    def __post_init__(self) -> None:
        if not self.until:
            object.__setattr__(self, "until", self.key)


class DecodedEvent(abc.ABC):
    """An event that is ready to be rendered. All subscriptions of a batch share it."""

    __slots__ = ()

    def frame(self, subscription: Subscription) -> bytes:
        """The frame for one subscription; empty if the event does not match."""
        return self.render(subscription) if self.matches(subscription) else b""

    def matches(self, subscription: Subscription) -> bool:
        """True if the subscription includes this event."""
        return True

    @abc.abstractmethod
    def render(self, subscription: Subscription) -> bytes:
        """The frame of a matching event; empty if there is nothing to show."""

    def keys(self, path: str) -> set[Any] | None:
        """The values at a path, for the index of equalities; None if the event may concern everybody."""
        return None


class LogEvent(abc.ABC):
    """A value with a position in a source's log. Frozen. Raises ValueError for an id that cannot be sent."""

    __slots__ = ()

    id: str
    """The SSE id."""
    key: str
    """Sorts as a string in log order; the id unless given."""

    def __post_init__(self) -> None:
        sse.check_field("id", self.id)
        if not self.key:
            object.__setattr__(self, "key", self.id)

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Approximate bytes held."""

    @abc.abstractmethod
    def decode(self) -> DecodedEvent:
        """The event, ready to be rendered."""


@dataclass(frozen=True, slots=True, eq=False)
class Event(LogEvent, DecodedEvent):
    """An event with the same text for every subscription. Raises ValueError for a name with a line end."""

    id: str
    data: str = ""
    name: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        sse.check_field("event", self.name)
        LogEvent.__post_init__(self)

    @property
    def size(self) -> int:
        return len(self.data) + len(self.id)

    def decode(self) -> DecodedEvent:
        return self

    def render(self, subscription: Subscription) -> bytes:
        return sse.frame(self.data, event=self.name, id=self.id)


@dataclass(frozen=True, slots=True, eq=False)
class Reset(LogEvent, DecodedEvent):
    """Tells a client that it must read its data anew. Clears the browser's id, then sets `id`.

    The second block gives a position at once. Without it, a client that is cut off between the reset
    and the next event would come back as a new client and miss the events between.
    """

    reason: ResetReason
    id: str = field(default="", kw_only=True)
    key: str = field(default="", kw_only=True)
    ns: Sequence[str] = field(default=(), kw_only=True)
    """The collections, or the database, that the reset concerns; empty if it concerns everybody."""
    since: str | None = field(default=None, kw_only=True)

    @property
    def size(self) -> int:
        return len(self.id)

    def decode(self) -> DecodedEvent:
        return self

    def matches(self, subscription: Subscription) -> bool:
        return not self.ns or any(map(subscription.includes, self.ns))

    def render(self, subscription: Subscription) -> bytes:
        """The reset, then the position from which the stream continues, if known."""
        ns = next(filter(subscription.includes, self.ns), None)
        facts = {"reason": self.reason.value, "ns": ns, "since": self.since}
        known = {name: fact for name, fact in facts.items() if fact is not None}
        if subscription.tag:
            data = json.dumps({"of": subscription.tag, **known}, separators=(",", ":"))
            return sse.frame(data, event="reset")
        reset = sse.CLEAR_ID + sse.frame(json.dumps(known, separators=(",", ":")), event="reset")
        return reset + sse.checkpoint(self.id) if self.id and subscription.checkpoints else reset


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that arrived together and are published together.

    `checkpoint` promises that the source has yielded every event up to it. `recipient` addresses the
    batch to one subscription; the history does not keep such a batch. `restarted` marks a gap in the
    log: no position before this batch can be resumed. A batch with an entry in `incomplete` needs
    `Source.complete` before it is published. After an `unfinished` one, more events may come with the cluster
    time of its last: the rest of a large transaction.
    """

    events: tuple[LogEvent, ...] = ()
    checkpoint: Position | None = None
    recipient: int = 0
    restarted: bool = False
    incomplete: tuple[object, ...] = ()
    """The source's notes on events that lack a part, such as updates without their documents."""
    unfinished: bool = False
