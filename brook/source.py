"""The interface of a source of events. `docs/sources.md` builds one from scratch."""

from __future__ import annotations

import abc
import datetime
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from brook.errors import HistoryLost, InvalidParameter, SnapshotUnavailable
from brook.event import Batch, Position
from brook.subscription import Subscription


class Source(abc.ABC):
    """The origin of events. Only `events` has to be written; the rest is for a source with a log."""

    has_documents = False
    """True if `snapshot` can read the documents that the events are about."""

    interruption: str | None = None
    """The reason why no events flow at the moment, in one line for `/readyz`; None while they flow."""

    interruptions = 0
    """Number of times that the flow of events was interrupted since the start."""

    gaps = 0
    """Number of times that events were lost, and every client was reset."""

    log_window_seconds: float | None = None
    """Time that the log reaches back, when it was last looked at; None if it is not known."""

    log_window_shortages = 0
    """Number of times that the log became shorter than the history, or than an hour."""

    async def open(self) -> None:  # noqa: B027 - nothing to do for a source without a connection
        """Get ready. Raises OperatorError, with a message that says what to do."""

    async def past(self) -> AsyncIterator[Batch]:
        """The events shortly before now, to fill the history before any client is let in. Must end."""
        return
        yield Batch()  # makes this a generator

    @abc.abstractmethod
    def events(self) -> AsyncIterator[Batch]:
        """The events from now on, in order, for ever. Raises if the source has failed for good."""

    async def complete(self, batch: Batch) -> AsyncIterator[Batch]:
        """An incomplete batch of `events` with the documents of its updates, in parts if they are large.

        Call it only if a client may want them, and before the next batch is taken.
        """
        yield batch

    async def collections(self, database: str) -> Sequence[str]:
        """The names of a database's collections. Raises NotReady if they cannot be read now."""
        return ()

    async def now(self) -> Position:
        """The latest position, which may be ahead of the events that were read so far.

        Raises SnapshotUnavailable if the documents cannot be read now.
        """
        raise SnapshotUnavailable("this source has no documents")

    async def snapshot(
        self, namespace: str, query: bytes, at: Position, *, sort: bytes = b"", limit: int = 0
    ) -> AsyncGenerator[Sequence[bytes]]:
        """The documents that match a query (BSON) at a position, as BSON, in parts.

        `sort` (BSON) is their order, `limit` their maximum number, 0 for all. Raises SnapshotUnavailable if
        the collection cannot be read at this position, or not at all; ClientError if the query is refused.
        """
        raise SnapshotUnavailable(f"this source has no documents of {namespace}")
        yield ()  # makes this a generator

    async def replay(self, after: Position) -> AsyncGenerator[Batch]:
        """The log after a position, going on into the present until closed.

        Begins with the event that an exact position names, so that the reader sees that it exists.
        Raises HistoryLost if the log no longer contains the position, UnknownPosition if it never did.
        """
        raise HistoryLost(f"this source keeps no log to resume {after.id} from")
        yield Batch()  # makes this a generator

    def position(self, id: str) -> Position:
        """The position of an id that a client sent. Raises InvalidId."""
        return Position(id, id)

    def joined(self, subscription: Subscription, since: Position | None) -> None:  # noqa: B027
        """Called when a subscriber has joined; for sources that play to each client alone."""

    def position_at(self, time: datetime.datetime) -> Position:
        """The position before the events of a time. Raises InvalidParameter."""
        raise InvalidParameter("since takes an event id, or now: this source keeps no times")

    def age_seconds(self, position: Position) -> float:
        """The approximate age of a position. Replays serve the newest positions first."""
        return 0.0

    def lag_seconds(self, batch: Batch) -> float | None:
        """Time since the last event of a batch happened, by the clocks of both sides; None if it is not
        known.
        """
        return None

    async def close(self) -> None:  # noqa: B027
        """Close all connections, and end all tasks."""
