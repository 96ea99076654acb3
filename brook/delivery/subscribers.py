"""Who is listening: the list through which every event goes from the source to the sockets.

Whatever touches the list does so without awaiting; `keep` and `close` await only between such steps. On one
event loop that is the lock, and nobody's slowness reaches anybody else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable

from brook import sse
from brook.delivery.fanout import Members
from brook.delivery.groups import Groups
from brook.delivery.history import History
from brook.delivery.subscriber import Buffer, Bye, State, Subscriber
from brook.event import Batch, Position, Reset
from brook.settings import Settings
from brook.subscription import Subscription

log = logging.getLogger(__name__)

# How much a subscriber that catches up may read in one turn of the loop before others have theirs.
CATCH_UP_BLOCKS = 16

# After how many keep-alives others have their turn. (Those who share their bytes are one turn.)
KEEP_ALIVES_PER_TURN = 500


class SubscriberList:
    """The list of active connections, and the only way to them."""

    def __init__(
        self, settings: Settings, history: History, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._history = history
        self._clock = clock
        self._groups = Groups()
        self._all: dict[Subscriber, None] = {}
        self._stuck: OrderedDict[Subscriber, float] = OrderedDict()
        """Those whose socket is full, by the time of their last progress."""
        self._checkpoint: Position | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        self.behind: Callable[[Subscriber], None] = _nobody
        """Takes a subscriber whose position the history does not cover; the replayer sets it."""
        self.left: Callable[[Subscriber], None] = _nobody
        """Forgets one that it took, and that has left; likewise."""

    def __len__(self) -> int:
        return len(self._all)

    def add(self, subscriber: Subscriber, since: Position | None, reset: Reset | None = None) -> None:
        """Open a subscriber's stream: from `since`, or from now, after a `reset` if there is one.

        What the history holds and the live tail are joined in one step: no gap, no repeat.
        """
        self._empty.clear()
        self._all[subscriber] = None
        may_be_empty = subscriber.subscription.checkpoints
        opening = sse.retry(self._settings.retry_ms) if may_be_empty else sse.KEEP_ALIVE
        if reset is not None:
            opening += reset.frame(subscriber.subscription)
        subscriber.resumed = since is not None
        if since is None or subscriber.subscription.audience:
            # A source that plays to each one alone knows itself where it left off.
            self._join(subscriber, opening)
        else:
            subscriber.position = since
            self.catch_up(subscriber, opening)

    def publish(self, batch: Batch) -> None:
        """Give a batch to every live subscriber: rendered once a subscription, written once a subscriber."""
        if batch.restarted:
            self._history.restart(batch.checkpoint)
            self._checkpoint = batch.checkpoint
        if batch.events and not batch.audience:
            self._history.append(batch.events)
        opened = [event.open() for event in batch.events] if self._groups else []
        for group, frames in self._groups.deliveries(batch.audience, opened):
            body = b"".join(frames)
            for members in list(group.members.values()):
                members.note(len(frames), len(body), batch.events[-1].key)
                data = members.wrap(body)
                over = members.queue(data, self._settings.queue_max_bytes)
                self._send_to_idle(members, data)
                for subscriber in over:
                    self._goodbye_slow(subscriber)
        if batch.checkpoint is not None:
            self._checkpoint = batch.checkpoint
            self._history.advance(batch.checkpoint)

    def catch_up(self, subscriber: Subscriber, data: bytes = b"") -> None:
        """Send `data`, then read on from the history until the socket is full or the subscriber is live."""
        for _ in range(CATCH_UP_BLOCKS):
            position = subscriber.position
            if subscriber.state in (State.CLOSING, State.GONE) or position is None:
                return
            if not self._history.covers(position):
                subscriber.state = State.REPLAYING
                self.send(subscriber, data)
                self.behind(subscriber)
                return
            subscriber.state = State.CATCHING_UP
            chunk = self._history.read(position.key, subscriber.subscription)
            if chunk is None:
                subscriber.seen = position.key
                self._join(subscriber, data)
                return
            subscriber.position = Position(chunk.end, chunk.end, exact=False)
            subscriber.events += chunk.events
            self.send(subscriber, data + chunk.data)
            if subscriber.waiting:
                return
            data = b""
        asyncio.get_running_loop().call_soon(self.catch_up, subscriber)

    def reset(self, subscriber: Subscriber, reset: Reset) -> None:
        """Tell a subscriber that its position cannot be resumed, and go on live."""
        self._join(subscriber, reset.frame(subscriber.subscription))

    def send(self, subscriber: Subscriber, data: bytes) -> None:
        """Write frames to one subscriber, or queue them behind what waits."""
        if data and not self._offer(subscriber, subscriber.connection.wrap(data), self._clock()):
            self._goodbye_slow(subscriber)
        subscriber.bytes += len(data)

    def drained(self, subscriber: Subscriber) -> None:
        """The connection has written what it was given."""
        if subscriber.state is State.GONE:
            return
        subscriber.waiting = False
        self._stuck.pop(subscriber, None)
        # The socket may take several pieces at once; whoever offers more must find the queue empty.
        while subscriber.queue and not subscriber.waiting:
            self._write(subscriber, subscriber.take(), self._clock())
        if subscriber.waiting:
            return
        if subscriber.state is State.CLOSING:
            subscriber.connection.close()
        elif subscriber.state is State.CATCHING_UP:
            self.catch_up(subscriber)
        elif subscriber.state is State.LIVE:
            self._groups.of(subscriber).sort(subscriber)

    def remove(self, subscriber: Subscriber) -> None:
        """Forget a subscriber whose socket is closed. Harmless when it is not in the list."""
        if subscriber.state is State.GONE:
            return
        self._leave_group(subscriber)
        if subscriber.state is State.REPLAYING:
            self.left(subscriber)
        subscriber.state = State.GONE
        subscriber.queue.clear()
        self._all.pop(subscriber, None)
        self._stuck.pop(subscriber, None)
        if not self._all:
            self._empty.set()
        log.info(
            "client left after %.1f s: %d events, %d bytes, %s%s",
            time.monotonic() - subscriber.joined, subscriber.events, subscriber.bytes, subscriber.leaving,
            ", resumed" if subscriber.resumed else "",
        )  # fmt: skip

    async def close(self, reason: Bye, timeout_seconds: float) -> None:
        """Say goodbye to everyone, and return when all have left or the time is over."""
        for subscriber in list(self._all):
            self._goodbye(subscriber, reason)
        try:
            await asyncio.wait_for(self._empty.wait(), timeout_seconds)
        except TimeoutError:
            for subscriber in list(self._all):
                self._cut(subscriber, reason)

    async def keep(self) -> None:
        """Send keep-alives, disconnect the stuck, forget the old: for ever, to be run as a watched task."""
        pause = min(1.0, self._settings.heartbeat_seconds / 4, self._settings.write_timeout_seconds / 4)
        while True:
            await asyncio.sleep(pause)
            self._history.expire()
            self._disconnect_stuck()
            await self._keep_alive()

    def _offer(self, subscriber: Subscriber, data: bytes, now: float) -> bool:
        """Write to an idle connection, queue for a busy one. False: more waits than the bound allows."""
        if subscriber.waiting:
            subscriber.put(data)
            return subscriber.queued_bytes <= self._settings.queue_max_bytes
        self._write(subscriber, data, now)
        return True

    def _write(self, subscriber: Subscriber, data: Buffer, now: float) -> None:
        subscriber.sent_at = now
        rest = subscriber.connection.send(data)
        if rest is not None:
            subscriber.waiting = True
            self._stuck[subscriber] = now
            if rest:
                subscriber.put_back(rest)

    def _join(self, subscriber: Subscriber, data: bytes) -> None:
        """Make a subscriber live, after `data` and the checkpoint it is at."""
        checkpoint = self._checkpoint_for(subscriber.subscription)
        if checkpoint is not None and checkpoint.key > subscriber.seen:
            data += sse.checkpoint(checkpoint.id)
            subscriber.seen = checkpoint.key
        self.send(subscriber, data)
        if subscriber.state in (State.CLOSING, State.GONE):
            return
        subscriber.state = State.LIVE
        subscriber.position = None
        self._groups.join(subscriber, self._clock())

    def _leave_group(self, subscriber: Subscriber) -> None:
        if subscriber.state is State.LIVE:
            self._groups.leave(subscriber)

    def _goodbye(self, subscriber: Subscriber, reason: Bye) -> None:
        """Queue the last words; the connection is closed when they are out."""
        if subscriber.state in (State.CLOSING, State.GONE):
            return
        self._leave_group(subscriber)
        subscriber.state = State.CLOSING
        subscriber.leaving = reason
        bye = sse.farewell("bye", f'{{"reason":"{reason}"}}', self._settings.jittered_retry_ms())
        data = subscriber.connection.wrap(bye) + subscriber.connection.end
        self._offer(subscriber, data, self._clock())
        if not subscriber.waiting:
            subscriber.connection.close()

    def _goodbye_slow(self, subscriber: Subscriber) -> None:
        """Drop what waits for a subscriber over its bound; its id lets it resume from what it had."""
        subscriber.drop_queue()
        self._goodbye(subscriber, Bye.SLOW_CONSUMER)

    def _cut(self, subscriber: Subscriber, reason: Bye) -> None:
        """Close a connection that takes nothing any more, not even a goodbye."""
        if subscriber.state is not State.CLOSING:
            subscriber.leaving = reason
        subscriber.connection.abort()
        self.remove(subscriber)

    def _send_to_idle(self, members: Members, data: bytes) -> None:
        now = self._clock()
        for subscriber, rest in members.send(data, now):
            self._write(subscriber, rest, now)
            members.sort(subscriber)

    async def _keep_alive(self) -> None:
        """Write to those that were silent for long enough. A busy client needs none: bytes wait for it."""
        due = self._clock() - self._settings.heartbeat_seconds
        sent = 0
        for group in list(self._groups):
            for members in group.members.values():
                if members.sent_at <= due:
                    frame = members.keep_alive(self._checkpoint_for(group.subscription))
                    self._send_to_idle(members, members.wrap(frame))
                    sent += len(members)
            if sent >= KEEP_ALIVES_PER_TURN:
                sent = 0
                await asyncio.sleep(0)
        for subscriber in list(self._all):
            if subscriber.state is State.REPLAYING and not subscriber.waiting and subscriber.sent_at <= due:
                self.send(subscriber, sse.KEEP_ALIVE)
                sent += 1
                if sent % KEEP_ALIVES_PER_TURN == 0:
                    await asyncio.sleep(0)

    def _checkpoint_for(self, subscription: Subscription) -> Position | None:
        """The list's checkpoint, if such a subscription is told it."""
        return self._checkpoint if subscription.checkpoints and not subscription.audience else None

    def _disconnect_stuck(self) -> None:
        due = self._clock() - self._settings.write_timeout_seconds
        for subscriber, last in list(self._stuck.items()):
            if last > due:
                return
            self._cut(subscriber, Bye.WRITE_TIMEOUT)


def _nobody(subscriber: Subscriber) -> None:
    """A list without a replayer: whoever is behind waits."""
