"""What the core asks of a source of events. `docs/sources.md` builds one from scratch."""

from __future__ import annotations

import abc
import datetime
from collections.abc import AsyncGenerator, AsyncIterator

from brook.errors import HistoryLost, InvalidParameter
from brook.event import Batch, Position
from brook.subscription import Subscription


class Source(abc.ABC):
    """Where events are born. Only `events` has to be written; the rest is for sources with a log."""

    interruption: str | None = None
    """One line that says why events have stopped for now, for `/readyz`; None while they flow."""

    async def open(self) -> None:  # noqa: B027 - nothing to do for a source without a connection
        """Get ready. Raises OperatorError, with a message that says what to do."""

    async def past(self) -> AsyncIterator[Batch]:
        """What happened shortly before now, to fill the history before anybody listens. Ends."""
        return
        yield Batch()  # what makes this a generator

    @abc.abstractmethod
    def events(self) -> AsyncIterator[Batch]:
        """What happens from now on, in order, for ever. Raising means that the source has failed for good."""

    async def replay(self, after: Position) -> AsyncGenerator[Batch]:
        """The log after a position, going on into the present until closed.

        Begins with the event that an exact position names, so that the reader sees that it exists.
        Raises HistoryLost when the log no longer holds the position, UnknownPosition when it cannot.
        """
        raise HistoryLost(f"this source keeps no log to resume {after.id} from")
        yield Batch()  # what makes this a generator

    def position(self, id: str) -> Position:
        """The place that an id names, which a client brought back. Raises InvalidId."""
        return Position(id, id)

    def joined(self, subscription: Subscription, since: Position | None) -> None:  # noqa: B027
        """A subscriber has joined; for sources that play to each one alone."""

    def position_at(self, time: datetime.datetime) -> Position:
        """The place in the log before what happened at a time. Raises InvalidParameter."""
        raise InvalidParameter("since takes an event id, or now: this source keeps no times")

    def age_seconds(self, position: Position) -> float:
        """Roughly how long ago a position was the present; replays serve the young ones first."""
        return 0.0

    async def close(self) -> None:  # noqa: B027
        """Give everything back."""
