"""One client of a result set until it is live: sends it a snapshot, or the changes that it has missed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from brook.delivery.live import Step
from brook.event import DecodedEvent, Position, Reset, ResetReason
from brook.live import frames
from brook.live.frames import Message
from brook.live.result_set import ResultSet
from brook.live.snapshot import Snapshot
from brook.subscription import Subscription

# Maximum time to wait for a client's position that this server has not reached: another server issued it.
AHEAD_SECONDS = 5.0


class Shared(Protocol):
    """A result set that is open, and what its readers need. `OpenSet` implements it."""

    result_set: ResultSet

    def snapshot(self) -> Snapshot:
        """The snapshot for a client that begins now."""

    def join(self, reader: SetReader) -> None:
        """Note a client."""

    def leave(self, reader: SetReader) -> None:
        """Forget a client."""

    def wait(self, reader: SetReader) -> None:
        """Wake a client when there is more of the snapshot, or the content of the set is known."""

    def wait_for(self, position: Position, reader: SetReader) -> bool:
        """Wake a client when a position is reached. False if it has waited for too long."""

    def present(self) -> Position | None:
        """The position up to which everything was published."""

    def events_from(self, position: Position) -> Iterable[DecodedEvent] | None:
        """The events of the history from a position on; None if the history does not cover it."""


class SetReader:
    """One client of one result set. In a bundle, `tag` is the tag of the subscription."""

    __slots__ = (
        "_at", "_number", "_position", "_reason", "_sent", "_set", "_shared", "_tag",
        "failed", "snapshot", "waits_since", "wake",
    )  # fmt: skip

    changes: tuple[Subscription, ...] = ()

    def __init__(
        self,
        shared: Shared,
        position: Position | None,
        tag: str,
        wake: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self.wake = wake
        self.failed = failed
        self.snapshot: Snapshot | None = None
        """The snapshot that the client is reading."""
        self.waits_since: float | None = None
        """The time since which the client waits for its position; None if it does not."""
        self._shared = shared
        self._set = shared.result_set
        self._position = position
        self._tag = tag
        self._sent = 0
        self._at: Position | None = None
        self._reason: ResetReason | None = None
        self._number: int | None = None
        """The client has everything up to this `ResultSet.number`; None if that is not known."""
        shared.join(self)
        if position is None or not self._set.known:
            shared.snapshot()  # starts to read at once, before this reader's turn in a bundle

    def next(self) -> Step:
        if self.snapshot is None and self._number is None and self._position is not None:
            return self._resume(self._position)
        if self.snapshot is None and self._number is None:
            self._begin()
        if self.snapshot is not None:
            return self._read_on(self.snapshot)
        assert self._number is not None
        messages = self._set.since(self._number)
        if messages is None:
            # The set's content was forgotten, or the record no longer reaches back to this client's number.
            self._begin()
            return Step(b"")
        return self._caught_up(messages)

    def start_over(self, broken: Sequence[Subscription]) -> None:
        self.snapshot = self._position = None
        self._number = None if self._set.subscription in broken else self._set.number

    def reset(self, reset: Reset) -> None:
        self.snapshot = self._number = self._position = None
        self._reason = reset.reason

    def replayed(self, end: Position | None, size: int) -> bytes:
        return b""  # a result set is not replayed

    def close(self) -> None:
        self._shared.leave(self)

    def _begin(self) -> None:
        self.snapshot, self._sent = self._shared.snapshot(), 0
        self._position = None

    def _wait(self) -> Step:
        self._shared.wait(self)
        return Step(None)

    def _resume(self, position: Position) -> Step:
        """Send the missed changes: from the record, or from the history, by each document's present state."""
        now = self._shared.present()
        if not self._set.known or now is None:
            self._shared.snapshot()
            return self._wait()
        if position.key > now.key and self._shared.wait_for(position, self):
            return Step(None)
        messages: list[Message] | None = None
        if position.key <= now.key:
            messages = self._set.since_position(position)
            if messages is None and (events := self._shared.events_from(position)) is not None:
                messages = self._set.missed(now, events)
        if messages is None:
            # Too old for both: a new snapshot replaces what the client holds.
            self._begin()
            return Step(b"")
        self._at = now
        end = frames.end(self._set.subscription.mode, now, self._set.count, resumed=True)
        return self._caught_up([*messages, end])

    def _read_on(self, snapshot: Snapshot) -> Step:
        if self._sent < len(snapshot.messages):
            message = snapshot.messages[self._sent]
            self._sent += 1
            if self._reason is not None and snapshot.complete and self._sent == len(snapshot.messages):
                message = snapshot.end(self._reason)
            return Step(message.frame(self._tag))
        if not snapshot.complete:
            return self._wait()
        self.snapshot = self._reason = None
        self._number, self._at = snapshot.number, snapshot.at
        return Step(b"")

    def _caught_up(self, messages: Iterable[Message]) -> Step:
        self._number = self._set.number
        self._position = None
        data = b"".join(message.frame(self._tag) for message in messages)
        return Step(data, self._shared.present() or self._at)
