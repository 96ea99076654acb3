"""Writes frames to subscribers: to one, or the same bytes to all of a fan-out. Never awaits."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence

from brook.delivery.connection import Buffer
from brook.delivery.fanout import Fanout
from brook.delivery.groups import Group, Groups
from brook.delivery.subscriber import CloseReason, State, Subscriber
from brook.event import Position
from brook.settings import Settings
from brook.subscription import Wanted


class Sender(abc.ABC):
    """The sending half of the subscriber list."""

    def __init__(self, settings: Settings, groups: Groups, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._groups = groups
        self._clock = clock
        self._all: dict[Subscriber, None] = {}
        self._checkpoint: Position | None = None
        self._notice = b""
        """A frame about the feed for new subscribers; empty if there is none."""

    @property
    def groups(self) -> Sequence[Group]:
        """A copy of the list of groups with a live subscriber."""
        return list(self._groups)

    @abc.abstractmethod
    def say_goodbye(self, subscriber: Subscriber, reason: CloseReason) -> None:
        """Send a subscriber a `bye`. Its connection is closed once that is written."""

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
        """Send a keep-alive to the idle subscribers of a fan-out. Busy ones have unsent bytes anyway."""
        frame = fanout.keep_alive(self._checkpoint_for(group.subscription))
        self._send_to_idle(fanout, fanout.framing.wrap(frame))

    def show_progress(self, group: Group, fanout: Fanout) -> None:
        """Send the checkpoint, if the clients want it and it moves them forward."""
        if group.subscription.progress and fanout.moves(self._checkpoint_for(group.subscription)):
            self.keep_alive(group, fanout)

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

    def _checkpoint_for(self, subscription: Wanted) -> Position | None:
        """The current checkpoint; None for subscriptions that receive none."""
        return self._checkpoint if subscription.checkpoints and not subscription.recipient else None
