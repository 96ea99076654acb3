"""One read of a result set: its events, for every client that asked for it meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from bson.errors import InvalidBSON

from brook.changes import documents
from brook.errors import SnapshotTooLarge
from brook.event import Position, ResetReason
from brook.live import frames
from brook.live.frames import Message
from brook.live.members import Collected
from brook.live.result_set import ResultSet
from brook.subscription import Mode

# Bounds of a part of a snapshot: number of documents, and characters of their JSON.
PART_DOCUMENTS = 100
PART_CHARACTERS = 64 * 1024


class Snapshot:
    """The documents of a result set at one position, as events. They grow while the collection is read."""

    def __init__(self, result_set: ResultSet, max_documents: int) -> None:
        self._result_set = result_set
        self._max_documents = max_documents
        self._texts: list[str] = []
        self._characters = 0
        self._read = 0
        self.at: Position | None = None
        """The position that it shows; None until the collection is read."""
        self.messages: list[Message] = []
        """The events so far. A client reads them at its own pace."""
        self.content: Collected = result_set.collect()
        self.count = 0
        """Number of documents, once it is complete."""
        self.complete = False
        self.number = 0
        """The set's number at the snapshot."""

    def begin(self, at: Position) -> None:
        """Begin at a position, or begin anew at another one. No event may have been made yet."""
        assert not self.messages
        self.at = at
        self.number = self._result_set.number
        self.content = self._result_set.collect()
        self._texts = []
        self._characters = self._read = 0

    def add(self, raw_documents: Sequence[bytes]) -> None:
        """Render documents of the collection. Raises SnapshotTooLarge."""
        self._read += len(raw_documents)
        if self._read > self._max_documents and not self._result_set.subscription.limit:
            raise SnapshotTooLarge(
                f"the result set has more than {self._max_documents:,} documents: ask for fewer with a "
                "filter, or for the first ones with sort and limit, or raise --snapshot-max-documents"
            )
        for raw in raw_documents:
            try:
                document = documents.decode(raw)
            except InvalidBSON:
                continue  # MongoDB stores malformed BSON from careless programs; it cannot be shown
            text = self.content.add(document)
            if text is not None and self._result_set.subscription.mode is Mode.LIVE:
                self._texts.append(text)
                self._characters += len(text)
            if len(self._texts) >= PART_DOCUMENTS or self._characters >= PART_CHARACTERS:
                self._cut()

    def finish(self) -> None:
        """End the snapshot. Its last event tells the client that it is complete."""
        if self._texts:
            self._cut()
        self.content.finish(self._read)
        self.count = len(self.content)
        self.messages.append(self.end(self._result_set.reason))
        self.complete = True

    def end(self, reason: ResetReason | None) -> Message:
        """The event that tells a client that the snapshot is complete."""
        assert self.at is not None
        return frames.end(self._result_set.subscription.mode, self.at, self.count, reason=reason)

    def _cut(self) -> None:
        self.messages.append(frames.snapshot(self._texts))
        self._texts = []
        self._characters = 0
