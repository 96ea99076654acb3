"""The list of active connections. Every event passes through it from the source to the sockets.

Only `publish_in_turns` awaits. On one event loop, a method that never awaits needs no lock, and a slow
subscriber delays no other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from brook import sse
from brook.delivery.catch_up import CatchUp, Observer
from brook.delivery.connection import Buffer
from brook.delivery.fanout import Fanout
from brook.delivery.groups import Group, Groups
from brook.delivery.history import History
from brook.delivery.subscriber import CloseReason, State, Subscriber
from brook.delivery.views import ChangeView, View
from brook.event import Batch, Position, Reset
from brook.settings import Settings
from brook.subscription import Subscription

log = logging.getLogger(__name__)

# Number of blocks that a subscriber may read in one turn of the event loop.
CATCH_UP_BLOCKS = 16


@dataclass(frozen=True, slots=True)
class Statistics:
    """The list at one moment, as numbers."""

    subscribers: int
    live: int
    replaying: int
    """Subscribers that wait for a replay of the log."""
    busy: int
    """Subscribers with a full socket."""
    queued_bytes: int
    """Bytes in the queues of busy subscribers."""
    subscriptions: int
    """Distinct subscriptions with a live subscriber."""
    index_entries: int
    """Entries of the index over these subscriptions."""


class SubscriberList:
    """The list of active connections, and the only way to them."""

    def __init__(
        self,
        settings: Settings,
        history: History,
        catch_up: CatchUp,
        observers: Sequence[Observer] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._history = history
        self._catch_up = catch_up
        self._observers = tuple(observers)
        self._clock = clock
        self._groups = Groups(self._view_of)
        self._all: dict[Subscriber, None] = {}
        self._checkpoint: Position | None = None
        self._notice = b""
        """A frame about the feed for new subscribers; empty if there is none."""
        self._paused: list[Callable[[], None]] | None = None
        """Steps postponed to the end of `publish_in_turns`; None while no such call is running."""
        self.empty = asyncio.Event()
        """Set while the list is empty."""
        self.empty.set()
        self._emptied = clock()
        """Time since which the list is empty, while it is."""

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Subscriber]:
        return iter(self._all)

    @property
    def groups(self) -> Sequence[Group]:
        """A copy of the list of groups with a live subscriber."""
        return list(self._groups)

    def statistics(self) -> Statistics:
        """Count the list. Takes time in proportion to the number of subscribers."""
        states = [subscriber.state for subscriber in self._all]
        return Statistics(
            subscribers=len(self._all),
            live=states.count(State.LIVE),
            replaying=states.count(State.REPLAYING),
            busy=sum(subscriber.waiting for subscriber in self._all),
            queued_bytes=sum(subscriber.queued_bytes for subscriber in self._all),
            subscriptions=len(self._groups),
            index_entries=self._groups.index_entries,
        )

    # -- coming and going --------------------------------------------------------------------------

    def add(self, subscriber: Subscriber, since: Position | None, reset: Reset | None = None) -> None:
        """Start a subscriber's stream at `since`, or now; send `reset` first, if given.

        The step from the history to live delivery never awaits: no event is missed or repeated.
        """
        self.empty.clear()
        self._all[subscriber] = None
        for observer in self._observers:
            observer.joined(subscriber)
        may_be_empty = subscriber.subscription.checkpoints
        opening = sse.retry(self._settings.retry_ms) if may_be_empty else sse.KEEP_ALIVE
        if reset is not None:
            opening += reset.frame(subscriber.subscription)
        opening += self._notice
        if since is None or subscriber.subscription.recipient:
            # A source that plays to each client alone handles `since` itself.
            subscriber.resumed = since is not None
            self._go_live(subscriber, opening)
        else:
            subscriber.resume(since)
            self._read_on(subscriber, opening)

    def drained(self, subscriber: Subscriber) -> None:
        """Continue with a subscriber: its connection has written all its bytes."""
        if subscriber.state is State.GONE:
            return
        subscriber.drained(self._clock())
        if subscriber.waiting:
            return
        if subscriber.state is State.CATCHING_UP:
            self._read_on(subscriber)
        elif subscriber.state is State.LIVE:
            self._groups.fanout_of(subscriber).refile(subscriber)

    def remove(self, subscriber: Subscriber) -> None:
        """Forget a subscriber after its socket has closed. Does nothing if it has left already."""
        if subscriber.state is State.GONE:
            return
        if subscriber.state is State.LIVE:
            self._groups.leave(subscriber)
        elif subscriber.state is State.REPLAYING:
            self._catch_up.forget(subscriber)
        subscriber.leave()
        self._all.pop(subscriber, None)
        if not self._all:
            self.empty.set()
            self._emptied = self._clock()
        for observer in self._observers:
            observer.left(subscriber)
        log.info(
            "client left after %.1f s: %d events, %d bytes, %s%s",
            time.monotonic() - subscriber.joined,
            subscriber.events,
            subscriber.bytes,
            subscriber.close_reason,
            ", resumed" if subscriber.resumed else "",
        )

    def say_goodbye(self, subscriber: Subscriber, reason: CloseReason) -> None:
        """Send a subscriber its farewell. Its connection is closed once that is written."""
        if subscriber.state in (State.CLOSING, State.GONE):
            return
        if subscriber.state is State.LIVE:
            self._groups.leave(subscriber)
        elif subscriber.state is State.REPLAYING:
            self._catch_up.forget(subscriber)
        farewell = sse.farewell("bye", f'{{"reason":"{reason}"}}', self._settings.jittered_retry_ms())
        subscriber.say_goodbye(reason, farewell, self._clock())

    def cut(self, subscriber: Subscriber, reason: CloseReason) -> None:
        """Close a connection without a goodbye, and forget its subscriber."""
        subscriber.cut(reason)
        self.remove(subscriber)

    # -- sending -----------------------------------------------------------------------------------

    def publish(self, batch: Batch) -> None:
        """Send a batch to the live subscribers: one rendering per subscription, one write per subscriber."""
        for _ in self._publish(batch):
            pass

    def wants_documents(self) -> bool:
        """True while somebody listens, or may come back to what is published now."""
        return bool(self._all) or self._clock() - self._emptied < self._settings.history_seconds

    def skip(self, batch: Batch) -> None:
        """Pass over a batch that nobody wants. The history begins anew after its last event.

        Not after its checkpoint, which may be before that event: a client with such a position would miss it.
        """
        last = batch.events[-1]
        self._history.restart(Position(last.key, last.id))
        self._checkpoint = batch.checkpoint or self._checkpoint

    async def publish_in_turns(self, batch: Batch) -> None:
        """Like `publish`, but give the event loop a turn after each group. For large batches.

        No subscriber joins a group meanwhile: one that is about to go live does so after the batch.
        """
        self._paused = []
        try:
            for _ in self._publish(batch):
                await asyncio.sleep(0)
        finally:
            paused, self._paused = self._paused, None
            for go_on in paused:
                go_on()

    def _publish(self, batch: Batch) -> Iterator[None]:
        if batch.restarted:
            self._history.restart(batch.checkpoint)
            self._checkpoint = batch.checkpoint
        if batch.events and not batch.recipient:
            self._history.append(batch.events)
        decoded = [event.decode() for event in batch.events] if self._groups else []
        for group, frames in self._groups.deliveries(batch.recipient, decoded):
            self._fan_out(group, frames, batch.events[-1].key)
            yield
        if batch.checkpoint is not None:
            self._checkpoint = batch.checkpoint
            self._history.advance(batch.checkpoint)

    def announce(self, notice: bytes, *, to_newcomers: bool) -> None:
        """Send a frame about the feed to every subscriber; with `to_newcomers`, also to each later one."""
        self._notice = notice if to_newcomers else b""
        for group in self.groups:
            for fanout in list(group.fanouts.values()):
                self._send_to_all(fanout, notice)
        for subscriber in list(self._all):
            if subscriber.state in (State.CATCHING_UP, State.REPLAYING):
                self.send(subscriber, notice)

    def send(self, subscriber: Subscriber, data: bytes) -> None:
        """Write frames to one subscriber, or queue them behind its unsent bytes."""
        if data and not subscriber.offer(data, self._clock()):
            self.say_goodbye(subscriber, CloseReason.SLOW_CONSUMER)

    def keep_alive(self, group: Group, fanout: Fanout) -> None:
        """Send a keep-alive to the idle subscribers of a fan-out. Busy ones have other bytes to be sent."""
        frame = fanout.keep_alive(self._checkpoint_for(group.subscription))
        self._send_to_idle(fanout, fanout.framing.wrap(frame))

    def _fan_out(self, group: Group, frames: Sequence[bytes], key: str) -> None:
        body = b"".join(frames)
        for fanout in list(group.fanouts.values()):
            fanout.note(len(frames), key)
            self._send_to_all(fanout, body)

    def _send_to_all(self, fanout: Fanout, body: bytes) -> None:
        fanout.bytes += len(body)
        data = fanout.framing.wrap(body)
        over_bound = fanout.queue(data)
        self._send_to_idle(fanout, data)
        for subscriber in over_bound:
            self.say_goodbye(subscriber, CloseReason.SLOW_CONSUMER)

    def _send_to_idle(self, fanout: Fanout, data: bytes) -> None:
        now = self._clock()
        unsent: list[tuple[Subscriber, Buffer]] = fanout.send(data, now)
        for subscriber, rest in unsent:
            subscriber.write(rest, now)
            fanout.refile(subscriber)

    # -- catching up -------------------------------------------------------------------------------

    def _read_on(self, subscriber: Subscriber, data: bytes = b"") -> None:
        """Send `data`, then the history, until the socket is full or the subscriber is live."""
        if subscriber.state is not State.CATCHING_UP:
            return
        if self._paused is not None:
            self._paused.append(partial(self._read_on, subscriber, data))
            return
        view = self._view_of(subscriber.subscription)
        for _ in range(CATCH_UP_BLOCKS):
            position = subscriber.position
            if position is None:
                return  # joined during `publish_in_turns`; goes live after it
            after = view.find(position)
            if after is None:
                subscriber.wait_for_replay()
                self._catch_up.take(subscriber, self)
                self.send(subscriber, data)
                return
            chunk = view.read(after)
            if chunk is None:
                subscriber.see(after)
                self._go_live(subscriber, data)
                return
            subscriber.advance(Position(chunk.end, chunk.end, exact=False), chunk.events)
            self.send(subscriber, data + chunk.data)
            if subscriber.waiting:
                return
            data = b""
        asyncio.get_running_loop().call_soon(self._read_on, subscriber)

    def take_back(self, subscriber: Subscriber, reset: Reset | None = None) -> None:
        """Take a subscriber back. It reads on from the history; with a reset it goes live."""
        if reset is not None:
            self._go_live(subscriber, reset.frame(subscriber.subscription))
            return
        subscriber.catch_up()
        if not subscriber.waiting:
            self._read_on(subscriber)

    def _go_live(self, subscriber: Subscriber, data: bytes) -> None:
        """Send `data` and the current checkpoint, then make the subscriber live."""
        if subscriber.state in (State.CLOSING, State.GONE):
            return
        if self._paused is not None:
            self._paused.append(partial(self._go_live, subscriber, data))
            return
        checkpoint = self._checkpoint_for(subscriber.subscription)
        if checkpoint is not None and checkpoint.key > subscriber.seen:
            data += sse.checkpoint(checkpoint.id)
            subscriber.see(checkpoint.key)
        self.send(subscriber, data)
        if subscriber.state in (State.CLOSING, State.GONE):
            return
        subscriber.go_live()
        self._groups.join(subscriber, self._clock())

    def _checkpoint_for(self, subscription: Subscription) -> Position | None:
        """The current checkpoint; None for subscriptions that receive none."""
        return self._checkpoint if subscription.checkpoints and not subscription.recipient else None

    def _view_of(self, subscription: Subscription) -> View:
        return ChangeView(subscription, self._history)
