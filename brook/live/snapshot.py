"""One read of a result set: its frames, for every client that asked for it meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from bson.errors import InvalidBSON

from brook.changes import documents
from brook.errors import SnapshotTooLarge
from brook.event import Position
from brook.live import frames
from brook.live.result_set import Key, ResultSet, key_of
from brook.subscription import Mode

# A part of a snapshot: at most so many documents, or so many characters of JSON.
PART_DOCUMENTS = 100
PART_CHARACTERS = 64 * 1024


class Snapshot:
    """The documents of a result set at one position, as frames. They grow while the collection is read."""

    def __init__(self, result_set: ResultSet, max_documents: int) -> None:
        self._result_set = result_set
        self._max_documents = max_documents
        self._texts: list[str] = []
        self._characters = 0
        self.at: Position | None = None
        """The position that it shows; None until the collection is read."""
        self.frames: list[bytes] = []
        """The frames so far. A client reads them at its own pace."""
        self.members: dict[Key, bytes] = {}
        self.complete = False
        self.number = 0
        """Number of the set's frames that it has seen."""

    def begin(self, at: Position) -> None:
        """Begin at a position; again, if no frame was made yet."""
        assert not self.frames
        self.at = at
        self.number = self._result_set.frames
        self.members = {}
        self._texts = []
        self._characters = 0

    def add(self, raw_documents: Sequence[bytes]) -> None:
        """Render documents. Raises SnapshotTooLarge."""
        for raw in raw_documents:
            try:
                document = documents.decode(raw)
            except InvalidBSON:
                continue  # MongoDB stores malformed BSON from careless programs; nobody can be shown it
            rendering = self._result_set.renderer.document(document)
            self.members[key_of(document["_id"])] = rendering.digest
            if self._result_set.subscription.mode is Mode.LIVE:
                self._texts.append(rendering.text)
                self._characters += len(rendering.text)
            if len(self._texts) >= PART_DOCUMENTS or self._characters >= PART_CHARACTERS:
                self._cut()
        if len(self.members) > self._max_documents:
            raise SnapshotTooLarge(
                f"the result set has more than {self._max_documents:,} documents: ask for fewer with a "
                "filter, or raise --snapshot-max-documents"
            )

    def finish(self) -> None:
        """End the snapshot. Its last frame makes it whole for the client."""
        assert self.at is not None
        if self._texts:
            self._cut()
        mode, reason = self._result_set.subscription.mode, self._result_set.reason
        self.frames.append(frames.end(mode, self.at, len(self.members), reason=reason))
        self.complete = True

    def _cut(self) -> None:
        self.frames.append(frames.snapshot(self._texts))
        self._texts = []
        self._characters = 0
