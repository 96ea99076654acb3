"""States for each client what it must have seen, and counts what was otherwise.

Changes: every majority-committed operation after its start, once, in the log's order; none that was rolled
back. A gap is allowed where a `reset` says so, and where the log had really forgotten the position.
Live: after each event, the documents that it holds are those of `find` at the event's cluster time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from tests.chaos.queries import ChangesQuery, LiveQuery
from tests.chaos.records import ChangesRecord, Gap, LiveRecord
from tests.chaos.truth import DELETE, INSERT, LostLog, Operation, Truth, seconds_of

PACED_SECONDS = 5
"""How old the state of a query with `every` may be: half a second, and the time that a busy machine takes."""
NAMED = 3
"""The number of faults of one client that are described; all are counted."""


@dataclass
class Verdict:
    """The counts of one client, or of all."""

    deliveries: int = 0
    lost: int = 0
    repeated: int = 0
    out_of_order: int = 0
    alien: int = 0
    """Events of no operation in the log: rolled back, never written, or with a wrong document."""
    untrue: int = 0
    """Events of a live query after which the client held something else than `find` at that time."""
    resets: int = 0
    unexplained_resets: int = 0
    skipped: int = 0
    """Operations that are missing where a `reset` says so, and the log had forgotten them."""
    told: list[str] = field(default_factory=list)

    @property
    def passes(self) -> bool:
        return not (
            self.lost
            or self.repeated
            or self.out_of_order
            or self.alien
            or self.untrue
            or self.unexplained_resets
        )

    def tell(self, text: str) -> None:
        if len(self.told) < NAMED:
            self.told.append(text)

    def __iadd__(self, other: Verdict) -> Verdict:
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
        return self


def is_explained(gap: Gap, lost_logs: Sequence[LostLog]) -> bool:
    """True if the log had forgotten the client's position by then, as the gap says."""
    return gap.reason == "history-lost" and any(
        gap.since < lost.oldest and seconds_of(lost.oldest) <= gap.clock + 1 for lost in lost_logs
    )


class ChangesChecker:
    """Walks along the log and a client's record at once."""

    def __init__(
        self, query: ChangesQuery, truth: Truth, record: ChangesRecord, lost_logs: Sequence[LostLog] = ()
    ) -> None:
        self._query = query
        self._truth = truth
        self._record = record
        self._lost_logs = lost_logs
        self._at = 0
        self._missing: set[int] = set()
        """Places of operations that the client passed over."""
        self._verdict = Verdict(deliveries=len(record), resets=len(record.gaps))

    def verdict(self) -> Verdict:
        record = self._record
        if record.start is None:
            self._verdict.lost += len(self._truth.operations)
            self._verdict.tell("never had an opening")
            return self._verdict
        self._at = self._truth.first_after(record.start)
        gaps = list(record.gaps)
        for place, event in enumerate(zip(record.times, record.keys, record.stamps, strict=True)):
            while gaps and gaps[0].place <= place:
                self._skip(gaps.pop(0), event[0])
            self._take(*event)
        for gap in gaps:
            self._skip(gap, 2**64 - 1)
        self._pass_over(len(self._truth.operations))
        self._verdict.lost += len(self._missing)
        for place in sorted(self._missing)[:NAMED]:
            self._verdict.tell(f"lost {self._truth.operations[place]}")
        return self._verdict

    def _take(self, time: int, key: int, stamp: int) -> None:
        """Find the operation of an event: the next one, if all is well."""
        operations = self._truth.operations
        at = self._at
        while at < len(operations) and operations[at].time <= time:
            if self._is(operations[at], time, key, stamp):
                self._pass_over(at)
                self._at = at + 1
                return
            at += 1
        self._misplaced(time, key, stamp)

    def _misplaced(self, time: int, key: int, stamp: int) -> None:
        for place in range(self._truth.first_at(time), self._truth.first_after(time)):
            operation = self._truth.operations[place]
            if self._is(operation, time, key, stamp):
                if place in self._missing:
                    self._missing.discard(place)
                    self._verdict.out_of_order += 1
                    self._verdict.tell(f"too late: {operation}")
                else:
                    self._verdict.repeated += 1
                    self._verdict.tell(f"repeated {operation}")
                return
        self._verdict.alien += 1
        self._verdict.tell(f"not in the log: time {time}, key {key}, stamp {stamp}")

    def _is(self, operation: Operation, time: int, key: int, stamp: int) -> bool:
        if operation.time != time or operation.key != key:
            return False
        if operation.kind in (DELETE, INSERT) or self._query.envelope:
            return operation.stamp == stamp
        # The document may be as it was at the end of the batch: newer, and never older.
        return stamp >= operation.stamp and self._truth.owner.get(stamp) == key

    def _pass_over(self, end: int) -> None:
        """Everything up to here did not come."""
        for place in range(self._at, end):
            operation = self._truth.operations[place]
            gone = operation.kind not in (INSERT, DELETE) and operation.key in self._truth.deleted
            # A plain update whose document is gone sends nothing: its delete follows.
            if not (gone and not self._query.envelope):
                self._missing.add(place)
        self._at = max(self._at, end)

    def _skip(self, gap: Gap, time: int) -> None:
        """A reset: the record may go on at a later time, but for all that was written after the reset."""
        if not is_explained(gap, self._lost_logs):
            self._verdict.unexplained_resets += 1
            self._verdict.tell(f"unexplained: {gap}")
            return
        while self._at < len(self._truth.operations):
            operation = self._truth.operations[self._at]
            if operation.time >= time or seconds_of(operation.time) > gap.clock:
                break
            self._verdict.skipped += 1
            self._at += 1


class States:
    """The digests of a live query at every time of the log, for all clients of it."""

    def __init__(self, query: LiveQuery, truth: Truth) -> None:
        self._empty = query.digest(())
        self._paced = query.paced
        self._times: list[int] = []
        self._digests: list[int] = []
        for time, digest in query.states(truth):
            self._times.append(time)
            self._digests.append(digest)

    def at(self, time: int) -> int:
        place = bisect_right(self._times, time)
        return self._digests[place - 1] if place else self._empty

    def allows(self, time: int, digest: int) -> bool:
        """True if the query had this state at a time; for a paced one, or shortly before."""
        if not self._paced:
            return self.at(time) == digest
        earliest = bisect_right(self._times, time - (PACED_SECONDS << 32))
        latest = bisect_right(self._times, time)
        return (
            self.at(self._times[earliest - 1] if earliest else 0) == digest
            or digest in self._digests[earliest:latest]
        )


def check_live(states: States, record: LiveRecord, lost_logs: Sequence[LostLog] = ()) -> Verdict:
    """Compare each state of a client with `find` at its time."""
    verdict = Verdict(deliveries=record.changes, resets=len(record.gaps))
    for gap in record.gaps:
        if not is_explained(gap, lost_logs):
            verdict.unexplained_resets += 1
            verdict.tell(f"unexplained: {gap}")
    for place, (time, digest) in enumerate(zip(record.times, record.digests, strict=True)):
        if not states.allows(time, digest):
            verdict.untrue += 1
            verdict.tell(
                f"event {place} at {seconds_of(time)}.{time & 0xFFFFFFFF} left another state than find"
            )
    if not record.times or record.digests[-1] != states.at(2**64 - 1):
        verdict.untrue += 1
        verdict.tell("the last state is not that of find at the end")
    return verdict
