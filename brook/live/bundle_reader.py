"""One client of a bundle until it is live: all of its subscriptions are brought to one position."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial

from brook.changes import resume_token
from brook.delivery.history import History
from brook.delivery.live import Step
from brook.delivery.subscriber import Subscriber
from brook.errors import ClientError
from brook.event import Position, Reset
from brook.live import frames
from brook.live.reader import SetReader
from brook.subscription import Bundle, Subscription

# Bound on the missed changes that a client holds back until its result sets are at the same position. Beyond
# it, the changes are committed first.
UNCOMMITTED_BYTES = 16 * 1024 * 1024

MakeReader = Callable[
    [Subscription, Position | None, Callable[[], None], Callable[[Exception], None]], SetReader
]


class BundleReader:
    """Reads the snapshots and the missed changes of all parts, then ends them with one `commit`.

    Nothing before the commit has an id: a client that is cut off comes back with its old position.
    """

    def __init__(
        self,
        subscriber: Subscriber,
        bundle: Bundle,
        since: Position | None,
        fresh: frozenset[str],
        make_reader: MakeReader,
        history: History,
        present: Callable[[], Position | None],
        ready: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._subscriber = subscriber
        self._history = history
        self._present = present
        self._ready = ready
        self._replaying = False
        self._resets = b""
        self._uncommitted = 0
        self._all_changes = bundle.changes
        self.changes = tuple(part for part in bundle.changes if part.tag not in fresh)
        if since is not None:
            subscriber.resume(since)
        self._readers = {
            part: make_reader(
                part, None if part.tag in fresh else since, self._wake, partial(_fail, failed, part.tag)
            )
            for part in bundle.parts
            if part.is_live
        }

    def next(self) -> Step:
        self._replaying = False
        position = self._subscriber.position
        if position is not None and self.changes:
            after = self._history.find(position)
            if after is None:
                self._replaying = True
                return Step(None, behind=True)
            if (step := self._read_changes(after)) is not None:
                return step
        data, self._resets = self._resets, b""
        for reader in self._readers.values():
            step = reader.next()
            if step.data is None:
                return Step(data or None)
            data += step.data
            if step.position is None:
                return Step(data)
        # Nothing was awaited since the first of them: all are at the same position.
        present = self._present()
        assert present is not None  # clients are let in after the first checkpoint
        return Step(data + frames.commit(present), present)

    def start_over(self, broken: Sequence[Subscription]) -> None:
        self.changes = tuple(self._all_changes)
        self._subscriber.advance(self._head())
        for reader in self._readers.values():
            reader.start_over(broken)

    def reset(self, reset: Reset) -> None:
        self._resets = b"".join(reset.frame(part) for part in self._all_changes)
        self._subscriber.advance(self._head())
        for reader in self._readers.values():
            reader.reset(reset)

    def replayed(self, end: Position | None, size: int) -> bytes:
        """A commit if no part has a result set. Otherwise the commit follows the snapshots, up to a bound."""
        self._uncommitted += size
        if end is None or (self._readers and self._uncommitted <= UNCOMMITTED_BYTES):
            return b""
        self._uncommitted = 0
        return frames.commit(resume_token.checkpoint(resume_token.cluster_time(end.key)))

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()

    def _wake(self) -> None:
        # Only the replay gives back a subscriber that waits for it.
        if not self._replaying:
            self._ready()

    def _head(self) -> Position:
        return Position(self._history.head, self._history.head, exact=False)

    def _read_changes(self, after: str) -> Step | None:
        """The next block of the history for all parts; None if there is no more."""
        chunks = [self._history.read(after, part) for part in self.changes]
        known = [chunk for chunk in chunks if chunk is not None]
        if not known:
            return None
        end = known[0].end
        self._subscriber.advance(Position(end, end, exact=False), sum(chunk.events for chunk in known))
        return Step(b"".join(chunk.data for chunk in known))


def _fail(failed: Callable[[Exception], None], tag: str, error: Exception) -> None:
    """Name the subscription that is refused: the client can come back with the others."""
    if isinstance(error, ClientError):
        # Other clients wait for the same read, and have other tags or none.
        error = copy.copy(error)
        error.of = tag
    failed(error)
