"""Recent events, bounded by bytes and by age. A client that reconnects is served from them."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from brook.event import DecodedEvent, LogEvent, Position
from brook.subscription import Subscription

# One read returns a block; a block is rendered and evicted as a whole. It is large enough that a client
# thousands of events behind needs only a few writes, and small enough to fit into a socket's buffer.
BLOCK_BYTES = 64 * 1024
BLOCK_EVENTS = 256

# A block is evicted when its newest event is too old. Its oldest event exceeds the age by at most the age
# divided by this number.
BLOCKS_PER_AGE = 10

# Memory of an event besides its payload: the objects that hold it (measured with tracemalloc).
EVENT_OVERHEAD_BYTES = 400

# Number of blocks kept decoded: clients that reconnect together read the same blocks, with different
# subscriptions.
DECODED_BLOCKS = 4


@dataclass(slots=True)
class _Block:
    number: int
    born: float
    touched: float = 0.0
    """Time of its newest event."""
    events: list[LogEvent] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    size: int = 0

    def full(self, oldest: float) -> bool:
        """True if the next event must begin a new block: this one is large enough, or older than `oldest`."""
        return self.size >= BLOCK_BYTES or len(self.events) >= BLOCK_EVENTS or self.born < oldest


@dataclass(frozen=True, slots=True)
class Chunk:
    """Part of the history, rendered for one subscription: `events` frames in `data`, up to key `end`."""

    data: bytes
    events: int
    end: str


class History:
    """The newest events in log order, without a gap. No method awaits.

    Rendered frames are cached beside the events, in at most a quarter of `max_bytes`: thousands of clients
    that reconnect together need the same frames. The least recently used frames are evicted first.
    """

    def __init__(
        self, max_bytes: int, max_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._clock = clock
        self._blocks: list[_Block] = []
        self._size = 0
        self._next_number = 0
        self._start: Position | None = None
        """The position after which every event is here; None if no event was evicted."""
        self._head = ""
        self._rendered: OrderedDict[tuple[int, int, Subscription], list[bytes]] = OrderedDict()
        self._rendered_bytes = 0
        self._decoded: OrderedDict[tuple[int, int], list[DecodedEvent]] = OrderedDict()

    @property
    def head(self) -> str:
        """The key up to which the history is complete."""
        return self._head

    @property
    def size(self) -> int:
        """Approximate bytes held by events."""
        return self._size

    @property
    def span_seconds(self) -> float:
        """Time since the oldest event here was published; 0 if there is none."""
        return self._clock() - self._blocks[0].born if self._blocks else 0.0

    def __len__(self) -> int:
        return sum(len(block.events) for block in self._blocks)

    def append(self, events: Iterable[LogEvent]) -> None:
        """Add events, which must follow the present ones in log order; evict the oldest."""
        now = self._clock()
        for event in events:
            if not self._blocks or self._blocks[-1].full(now - self._max_seconds / BLOCKS_PER_AGE):
                self._blocks.append(_Block(self._next_number, now))
                self._next_number += 1
            block = self._blocks[-1]
            block.touched = now
            size = event.size + EVENT_OVERHEAD_BYTES
            block.events.append(event)
            block.keys.append(event.key)
            block.size += size
            self._size += size
            self._head = max(self._head, event.key)
        self.expire()

    def advance(self, position: Position) -> None:
        """Note that every event up to `position` has been appended."""
        self._head = max(self._head, position.key)

    def restart(self, position: Position | None) -> None:
        """Forget everything. The log continues at `position`; no earlier position can be covered."""
        self._blocks.clear()
        self._rendered.clear()
        self._decoded.clear()
        self._size = self._rendered_bytes = 0
        self._start = position
        self._head = position.key if position else ""

    def expire(self) -> None:
        """Evict blocks until both bounds hold."""
        oldest = self._clock() - self._max_seconds
        while self._blocks and (self._size > self._max_bytes or self._blocks[0].touched < oldest):
            block = self._blocks.pop(0)
            self._decoded = OrderedDict(
                (key, decoded) for key, decoded in self._decoded.items() if key[0] != block.number
            )
            self._size -= block.size
            last = block.events[-1]
            self._start = Position(last.key, last.id)

    def covers(self, position: Position) -> bool:
        """True if every event after `position` is here, and the position itself is known to exist."""
        return self.find(position) is not None

    def find(self, position: Position) -> str | None:
        """The key of a position that is covered; None if it is not."""
        start = self._start
        if start is not None and (start.id == position.id if position.exact else start.key == position.key):
            return start.key
        if not position.exact and start is not None and start.key < position.key <= self._head:
            return position.key
        return self._key_of(position)

    def _key_of(self, position: Position) -> str | None:
        """The key of the event that a position names."""
        for block in self._blocks_from(position.key):
            first = bisect_left(block.keys, position.key)
            last = bisect_right(block.keys, position.until)
            for event in block.events[first:last]:
                if event.id == position.id or not position.exact:
                    return event.key
            if last < len(block.keys):
                return None
        return None

    def read(self, after: str, subscription: Subscription) -> Chunk | None:
        """The frames after key `after`, at most a block of them; None if no event follows."""
        block = self._block_after(after)
        if block is None:
            return None
        frames = self._frames(block, subscription)
        frames = frames[bisect_right(block.keys, after) :]
        return Chunk(b"".join(frames), sum(map(bool, frames)), block.keys[-1])

    def events_after(self, key: str) -> Iterator[DecodedEvent]:
        """The events after a key, decoded."""
        for block in self._blocks_from(key):
            yield from self._decode(block)[bisect_right(block.keys, key) :]

    def _block_after(self, key: str) -> _Block | None:
        """The first block with an event after `key`."""
        index = bisect_right(self._blocks, key, key=_last_key)
        return self._blocks[index] if index < len(self._blocks) else None

    def _blocks_from(self, key: str) -> Iterator[_Block]:
        """The blocks from the first one with an event at `key` or after it."""
        for index in range(bisect_left(self._blocks, key, key=_last_key), len(self._blocks)):
            yield self._blocks[index]

    def _decode(self, block: _Block) -> list[DecodedEvent]:
        """The block's events, decoded once for all subscriptions that read it soon after one another."""
        key = (block.number, len(block.events))
        decoded = self._decoded.get(key)
        if decoded is None:
            decoded = [event.decode() for event in block.events]
            # A huge document, decoded, takes several times its size.
            if block.size < 2 * BLOCK_BYTES:
                self._decoded[key] = decoded
            if len(self._decoded) > DECODED_BLOCKS:
                self._decoded.popitem(last=False)
        return decoded

    def _frames(self, block: _Block, subscription: Subscription) -> list[bytes]:
        """The block's frames, rendered once for all subscribers of a subscription."""
        key = (block.number, len(block.events), subscription)
        frames = self._rendered.get(key)
        if frames is None:
            frames = [event.frame(subscription) for event in self._decode(block)]
            self._rendered[key] = frames
            self._rendered_bytes += _cost(subscription, frames)
            while self._rendered_bytes > self._max_bytes // 4:
                (_, _, other), forgotten = self._rendered.popitem(last=False)
                self._rendered_bytes -= _cost(other, forgotten)
        else:
            self._rendered.move_to_end(key)
        return frames


def _last_key(block: _Block) -> str:
    return block.keys[-1]


def _cost(subscription: Subscription, frames: list[bytes]) -> int:
    """Approximate bytes of a cached list of frames: a reference per frame, an object per frame that is not
    empty, the cache's entry, and the subscription, which may live on only in the cache.
    """
    return 400 + subscription.size + sum(8 + len(frame) + (33 if frame else 0) for frame in frames)
