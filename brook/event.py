"""What happened: the values that travel from a source to the subscribers."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field

from brook import sse


class ResetReason(enum.StrEnum):
    """Why a client's copy of the data can no longer be trusted: the word in the frame, log and docs."""

    HISTORY_LOST = "history-lost"
    INVALID_ID = "invalid-id"
    COLLECTION_DROPPED = "collection-dropped"
    COLLECTION_RENAMED = "collection-renamed"
    DATABASE_DROPPED = "database-dropped"
    OVERSIZED_EVENT = "oversized-event"


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a client asked for. Equal subscriptions share matching and rendering.

    `audience` is 0 for what everybody may hear; a source that plays to each client alone (the demo)
    gives each its own number, and addresses its batches with it.
    """

    audience: int = 0


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a source's log, between two events.

    `key` sorts as a string in log order. `id` is what the client carries. `exact` says that the id
    names one event, which must exist; otherwise it names a moment.
    """

    key: str
    id: str = field(compare=False)
    exact: bool = field(compare=False, default=True)


class Event:
    """One thing that happened. `id` sorts as a string in log order and becomes the SSE id.

    Subclasses render other things; the list and the history use only `key`, `id`, `size` and `frame`.
    """

    __slots__ = ("data", "id", "key", "name")

    def __init__(self, id: str, data: str = "", name: str = "", key: str = "") -> None:
        self.id = id
        self.key = key or id
        self.data = data
        self.name = name

    @property
    def size(self) -> int:
        """Bytes that the event holds on to, about."""
        return len(self.data) + len(self.id)

    def frame(self, subscription: Subscription) -> bytes:
        """The event as one subscription wants it; empty when it does not want it at all."""
        return sse.frame(self.data, event=self.name, id=self.id)


class Reset(Event):
    """What a client holds can no longer be trusted. Clears the browser's id, then sets `id`.

    The second block gives a position at once: without it, a client that was cut off between the
    reset and the next event would come back as a new one and miss what came between.
    """

    __slots__ = ()

    def __init__(self, reason: ResetReason, *, id: str = "", key: str = "", **facts: str) -> None:
        data = json.dumps({"reason": reason.value, **facts}, separators=(",", ":"), ensure_ascii=False)
        super().__init__(id=id, data=data, name="reset", key=key)

    def frame(self, subscription: Subscription) -> bytes:
        """The reset, and the position from which the stream goes on, if it is known."""
        reset = sse.CLEAR_ID + sse.frame(self.data, event=self.name)
        return reset + sse.checkpoint(self.id) if self.id else reset


@dataclass(frozen=True, slots=True)
class Batch:
    """What arrived together and travels together.

    `checkpoint` promises that every event up to it has been yielded. `audience` addresses the batch
    to one subscription; such a batch is not remembered. `restarted` says that the log could not be
    followed without a gap: nothing that was before this batch can be resumed.
    """

    events: tuple[Event, ...] = ()
    checkpoint: Position | None = None
    audience: int = 0
    restarted: bool = False
