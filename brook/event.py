"""What happened: the values that travel from a source to the subscribers."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from brook import sse
from brook.subscription import Subscription


class ResetReason(enum.StrEnum):
    """Why a client's copy of the data can no longer be trusted: the word in the frame, log and docs."""

    HISTORY_LOST = "history-lost"
    INVALID_ID = "invalid-id"
    COLLECTION_DROPPED = "collection-dropped"
    COLLECTION_RENAMED = "collection-renamed"
    DATABASE_DROPPED = "database-dropped"
    OVERSIZED_EVENT = "oversized-event"
    UNREADABLE_EVENT = "unreadable-event"


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a source's log, between two events.

    `key` sorts as a string in log order. `id` is what the client carries. `exact` says that the id
    names one event, which must exist; otherwise it names a moment.
    """

    key: str
    id: str = field(compare=False)
    exact: bool = field(compare=False, default=True)


class OpenEvent:
    """An event made ready to be rendered: what all subscriptions of a batch share."""

    __slots__ = ()

    def frame(self, subscription: Subscription) -> bytes:
        """The event as one subscription wants it; empty when it does not want it at all."""
        raise NotImplementedError

    def keys(self, path: str) -> set[Any] | None:
        """What an equality on a path may look for; None when the event may concern everybody."""
        return None


class Event(OpenEvent):
    """One thing that happened. `id` sorts as a string in log order and becomes the SSE id.

    Subclasses render other things; the list and the history use only `key`, `id`, `size` and `open`.
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

    def open(self) -> OpenEvent:
        """The event, ready to be rendered."""
        return self

    def frame(self, subscription: Subscription) -> bytes:
        """Name, data and id as they are."""
        return sse.frame(self.data, event=self.name, id=self.id)


class Reset(Event):
    """What a client holds can no longer be trusted. Clears the browser's id, then sets `id`.

    The second block gives a position at once: without it, a client that was cut off between the
    reset and the next event would come back as a new one and miss what came between.
    """

    __slots__ = ("_since", "namespaces", "reason")

    def __init__(
        self,
        reason: ResetReason,
        *,
        id: str = "",
        key: str = "",
        ns: Sequence[str] = (),
        since: str | None = None,
    ) -> None:
        super().__init__(id=id, name="reset", key=key)
        self.reason = reason
        self.namespaces = tuple(ns)
        """What it is about; nothing for a reset that concerns everybody."""
        self._since = since

    def frame(self, subscription: Subscription) -> bytes:
        """The reset, and the position from which the stream goes on, if it is known."""
        heard = [name for name in self.namespaces if subscription.hears_of(name)]
        if self.namespaces and not heard:
            return b""
        facts = {"reason": self.reason.value, "ns": heard[0] if heard else None, "since": self._since}
        known = {name: fact for name, fact in facts.items() if fact is not None}
        data = json.dumps(known, separators=(",", ":"))
        reset = sse.CLEAR_ID + sse.frame(data, event=self.name)
        return reset + sse.checkpoint(self.id) if self.id and subscription.checkpoints else reset


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
