"""The list of active connections. Every event passes through it from the source to the sockets.

Only `publish_in_turns` awaits. On one event loop, a method that never awaits needs no lock, and a slow
subscriber delays no other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from brook import sse
from brook.delivery.bundles import BundleFrames, Gathering
from brook.delivery.catch_up import CatchUp, Observer
from brook.delivery.groups import Group, Groups
from brook.delivery.history import History
from brook.delivery.live import Callbacks, LiveMode, Reader, Update
from brook.delivery.sender import Sender
from brook.delivery.statistics import Statistics
from brook.delivery.subscriber import CloseReason, Origin, State, Subscriber
from brook.delivery.views import ChangeView, View
from brook.errors import ClientError
from brook.event import Batch, Position, Reset
from brook.settings import Settings
from brook.subscription import Subscription

# Number of blocks that a subscriber may read in one turn of the event loop.
CATCH_UP_BLOCKS = 16


class SubscriberList(Sender):
    """The list of active connections, and the only way to them."""

    def __init__(
        self,
        settings: Settings,
        history: History,
        catch_up: CatchUp,
        observers: Sequence[Observer] = (),
        live: LiveMode | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(settings, Groups(self._view_of), clock)
        self._history = history
        self._catch_up = catch_up
        self._observers = tuple(observers)
        self._live = live
        if live is not None:
            live.attach(
                Callbacks(lambda: self._checkpoint, self._go_on, self._cannot_serve, self._publish_late)
            )
        self._starting_over: list[Subscriber] = []
        """Subscribers that need new snapshots after the current batch."""
        self._paused: list[Callable[[], None]] | None = None
        """Steps postponed to the end of `publish_in_turns`; None while no such call is running."""
        self.empty = asyncio.Event()
        """Set while the list is empty."""
        self.empty.set()
        self._emptied = clock()
        """Time at which the list became empty, while it is."""

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Subscriber]:
        return iter(self._all)

    def statistics(self) -> Statistics:
        """Count the list. Takes time in proportion to the number of subscribers."""
        return Statistics.of(self._all, self._groups)

    # -- coming and going --------------------------------------------------------------------------

    def add(
        self,
        subscriber: Subscriber,
        since: Position | None,
        reset: Reset | None = None,
        *,
        opened: bytes = b"",
        fresh: frozenset[str] = frozenset(),
    ) -> None:
        """Start a subscriber's stream at `since`, or now; send `opened` first, then `reset`, if given.

        The parts of a bundle with a `fresh` tag start now. The step from the history to live delivery never
        awaits: no event is missed or repeated.
        """
        self.empty.clear()
        self._all[subscriber] = None
        for observer in self._observers:
            observer.joined(subscriber)
        may_be_empty = subscriber.subscription.checkpoints
        opening = sse.retry(self._settings.retry_ms) if may_be_empty else sse.KEEP_ALIVE
        opening += opened
        if self._live is not None and subscriber.subscription.is_live:
            if since is not None:
                subscriber.come_back()
            subscriber.reader = self._live.reader(subscriber, since, fresh)
            if reset is not None:
                subscriber.come_back(Origin.RESET)
                subscriber.reader.reset(reset)
            self._read_on(subscriber, opening + self._notice)
            return
        if reset is not None:
            opening += reset.frame(subscriber.alone)
            subscriber.come_back(Origin.RESET)
        opening += self._notice
        if since is None or subscriber.subscription.recipient:
            # A source that plays to each client alone handles `since` itself.
            if since is not None:
                subscriber.resume(since)
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
        self._withdraw(subscriber)
        subscriber.leave()
        self._all.pop(subscriber, None)
        if not self._all:
            self.empty.set()
            self._emptied = self._clock()
        for observer in self._observers:
            observer.left(subscriber)
        subscriber.log_end()

    def say_goodbye(self, subscriber: Subscriber, reason: CloseReason) -> None:
        """Send a subscriber a `bye`. Its connection is closed once that is written."""
        farewell = sse.farewell("bye", f'{{"reason":"{reason}"}}', self._settings.jittered_retry_ms())
        self._say_farewell(subscriber, reason, farewell)

    def _say_farewell(self, subscriber: Subscriber, reason: CloseReason, farewell: bytes) -> None:
        if subscriber.state in (State.CLOSING, State.GONE):
            return
        self._withdraw(subscriber)
        subscriber.say_goodbye(reason, farewell, self._clock())

    def _withdraw(self, subscriber: Subscriber) -> None:
        """Take a subscriber out of everything that may still send to it."""
        if subscriber.state is State.LIVE:
            self._groups.leave(subscriber)
        elif subscriber.state is State.REPLAYING:
            self._catch_up.forget(subscriber)
        if subscriber.reader is not None:
            subscriber.reader.close()

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
        """True while there are subscribers, or the last one left recently enough to resume from memory."""
        return bool(self._all) or self._clock() - self._emptied < self._settings.history_seconds

    def skip(self, batch: Batch) -> None:
        """Pass over a batch that no client needs. The history begins anew after its last event.

        It must not begin at the batch's checkpoint, which may be before that event: a client that resumes
        there would miss the event.
        """
        last = batch.events[-1]
        self._history.restart(Position(last.key, last.id))
        if self._live is not None:
            self._live.skip(batch)
        self._checkpoint = batch.checkpoint or self._checkpoint

    def expire(self) -> None:
        """Evict old events and unused result sets."""
        self._history.expire()
        if self._live is not None:
            self._live.expire()

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
        decoded = [event.decode() for event in batch.events] if self._groups or self._live else []
        gathering = Gathering()
        for group, candidates in self._groups.concerned(batch.recipient, decoded).items():
            if group.bundles:
                gathering.add(group, candidates)
            # The caller may await between two groups, and every subscriber of this group may have left.
            elif group.fanouts and (frames := group.view.frames(candidates)):
                self._fan_out(group, frames, batch.events[-1].key)
                yield
        if self._live is not None:
            for update in self._live.publish(batch, decoded):
                if update is not None:
                    self._publish_update(update, gathering)
                yield
        if gathering and self._live is not None:
            yield from self._publish_bundles(gathering, self._live, self._live.end(batch))
        if batch.checkpoint is not None:
            self._checkpoint = batch.checkpoint
            self._history.advance(batch.checkpoint)
        self._start_over()

    def _publish_update(self, update: Update, gathering: Gathering) -> None:
        """Send a result set's event to the clients that have it alone, and gather it for bundles."""
        for group in self._groups.of_result_set(update.subscription):
            if group.bundles:
                gathering.add(group, update)
            elif frame := update.frame():
                self._fan_out(group, [frame], update.position.key)
            else:
                self._break(group, [update.subscription])

    def _publish_bundles(
        self, gathering: Gathering, live: LiveMode, position: Position | None
    ) -> Iterator[None]:
        for bundle in gathering.by_bundle():
            if position is not None:
                self._publish_bundle(bundle, live, position)
            yield

    def _publish_bundle(self, bundle: BundleFrames, live: LiveMode, position: Position) -> None:
        """Send a bundle its part of a batch. If a result set is broken, the commit follows its snapshot."""
        if not bundle.broken:
            bundle.frames.append(live.commit(position))
        if bundle.frames:
            self._fan_out(bundle.group, bundle.frames, position.key)
        if bundle.broken:
            self._break(bundle.group, bundle.broken)

    def _publish_late(self, make: Callable[[], Update | None]) -> None:
        """Send an update that has waited for its pace."""
        if self._paused is not None:
            self._paused.append(partial(self._publish_late, make))
            return
        update = make()
        if update is None or self._live is None:
            return
        gathering = Gathering()
        self._publish_update(update, gathering)
        for _ in self._publish_bundles(gathering, self._live, update.position):
            pass
        self._start_over()

    def _break(self, group: Group, broken: Sequence[Subscription]) -> None:
        """Take a group's clients out of live delivery: some of their result sets have to be read anew."""
        for subscriber in group.subscribers():
            self._groups.leave(subscriber)
            subscriber.start_over()
            assert subscriber.reader is not None
            subscriber.reader.start_over(broken)
            self._starting_over.append(subscriber)

    def _start_over(self) -> None:
        """Send new snapshots, after the batch that broke the old ones."""
        starting, self._starting_over = self._starting_over, []
        for subscriber in starting:
            self._read_on(subscriber)

    # -- catching up -------------------------------------------------------------------------------

    def _read_on(self, subscriber: Subscriber, data: bytes = b"") -> None:
        """Send `data`, then the history, until the socket is full or the subscriber is live."""
        if subscriber.state is not State.CATCHING_UP:
            return
        if self._paused is not None:
            self._paused.append(partial(self._read_on, subscriber, data))
            return
        if subscriber.reader is not None:
            self._read_with(subscriber.reader, subscriber, data)
            return
        view = self._view_of(subscriber.alone)
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

    def _read_with(self, reader: Reader, subscriber: Subscriber, data: bytes) -> None:
        """Send `data`, then the snapshots and the missed changes, until the socket is full or all is sent."""
        for _ in range(CATCH_UP_BLOCKS):
            step = reader.next()
            if step.data is None:
                subscriber.wait_for_replay()
                if step.behind:
                    self._catch_up.take(subscriber, self)
                self.send(subscriber, data)
                return
            data += step.data
            if step.position is not None:
                subscriber.see(step.position.key)
                self._go_live(subscriber, data)
                return
            self.send(subscriber, data)
            data = b""
            if subscriber.waiting or subscriber.state is not State.CATCHING_UP:
                return
        asyncio.get_running_loop().call_soon(self._read_on, subscriber)

    def _go_on(self, subscriber: Subscriber) -> None:
        """Go on with a subscriber that has waited for more of its snapshot."""
        if subscriber.state is State.REPLAYING:
            self.take_back(subscriber)

    def _cannot_serve(self, subscriber: Subscriber, error: Exception) -> None:
        """End a stream whose result set cannot be read."""
        if isinstance(error, ClientError) and self._live is not None:
            self._say_farewell(subscriber, CloseReason.REFUSED, self._live.refusal(error))
        else:
            self.cut(subscriber, CloseReason.REPLAY_FAILED)

    def take_back(self, subscriber: Subscriber, reset: Reset | None = None) -> None:
        """Take a subscriber back. It reads on from the history; with a reset it goes live."""
        if reset is not None:
            subscriber.come_back(Origin.RESET)
            if subscriber.reader is None:
                self._go_live(subscriber, reset.frame(subscriber.alone))
                return
            subscriber.reader.reset(reset)
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
        if subscriber.arriving:
            for observer in self._observers:
                observer.resumed(subscriber)
        subscriber.go_live()
        self._groups.join(subscriber, self._clock())

    def _view_of(self, subscription: Subscription) -> View:
        return ChangeView(subscription, self._history)
