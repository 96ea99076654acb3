"""Sources with a log in memory, and the server around one."""

from __future__ import annotations

import asyncio
import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

import tornado.web

from brook.admission import Everyone
from brook.delivery.history import History
from brook.delivery.keeper import Keeper
from brook.delivery.replay import Replayer
from brook.delivery.subscribers import SubscriberList
from brook.errors import HistoryLost, InvalidId, UnknownPosition
from brook.event import Batch, Position
from brook.feed import Feed
from brook.readiness import Readiness
from brook.settings import Settings
from brook.source import Source
from brook.streams import SingleStream
from handlers import application
from tests.support.events import Counted, after, at, events
from tests.support.processes import ROOT


class LogSource(Source):
    """A source with a log in memory. `log` grows at its end, and may be forgotten up to `lost`."""

    def __init__(self, log: list[Counted], batch: int = 100) -> None:
        self.log = log
        self.batch = batch
        self.lost = ""
        self.pace = 0
        self.opened: list[str] = []
        """The ids from which it was replayed."""
        self.open_now = 0
        self.open_most = 0
        self.error: Exception | None = None
        self.running = asyncio.Event()
        self.running.set()
        self.stops_at = math.inf
        """How many events a replay reads before it waits to be `running` again."""
        self.grown = asyncio.Event()

    def append(self, happened: list[Counted]) -> None:
        self.log += happened
        self.grown.set()
        self.grown = asyncio.Event()

    def head(self) -> Position:
        return Position(self.log[-1].key + "~", f"t{int(self.log[-1].key)}", exact=False)

    def age_seconds(self, position: Position) -> float:
        """An event a second, if there is a pace."""
        return self.pace * (len(self.log) - int(re.match(r"\d+", position.key)[0])) if self.pace else 0

    async def events(self) -> AsyncIterator[Batch]:
        raise NotImplementedError("these tests publish themselves")
        yield Batch()

    async def replay(self, position: Position) -> AsyncGenerator[Batch]:
        self.opened.append(position.id)
        self.open_now += 1
        self.open_most = max(self.open_most, self.open_now)
        try:
            await asyncio.sleep(0)
            if position.key > self.head().key:
                raise UnknownPosition("in the future")
            keys = [event.key for event in self.log]
            find = bisect_left if position.exact else bisect_right
            index = find(keys, position.key)
            while True:
                if index >= self.stops_at:
                    self.stops_at = math.inf
                    self.running.clear()
                await self.running.wait()
                if self.error is not None:
                    raise self.error
                if max(position.key, self.log[max(0, index - 1)].key) < self.lost:
                    raise HistoryLost("forgotten")
                batch = tuple(self.log[index : index + self.batch])
                index += len(batch)
                grown = self.grown
                # A real log is read through a socket: others have their turn.
                await asyncio.sleep(0)
                yield Batch(batch, self.head() if index == len(self.log) else None)
                if index == len(self.log):
                    await grown.wait()
        finally:
            self.open_now -= 1


UNICODE_ID = "fr\u00fchling-\u0661"


class NumberedLog(LogSource):
    """A log in memory, whose ids are numbers, and moments between them."""

    def position(self, id: str) -> Position:
        if id == "a bug":
            raise RuntimeError("the password is swordfish")
        if id == UNICODE_ID:
            return at(99)
        if re.fullmatch("[0-9]{6}", id):
            return at(int(id))
        if re.fullmatch("t[0-9]{1,6}", id):
            return after(int(id[1:]))
        raise InvalidId("an event id is six digits, or t and a number")


@dataclass(slots=True)
class Service:
    """A server without MongoDB, and what is in it."""

    settings: Settings
    source: NumberedLog
    feed: Feed
    subscribers: SubscriberList
    keeper: Keeper
    readiness: Readiness
    app: tornado.web.Application


def build_service(**options) -> Service:
    """A log of 100 events, the last ten in memory too."""
    settings = Settings(**options)
    history = History(settings.history_max_bytes, settings.history_seconds)
    source = NumberedLog(events(1, 100))
    subscribers = SubscriberList(settings, history, Replayer(source, history, settings.replay_cursors))
    subscribers.publish(Batch(checkpoint=after(90), restarted=True))
    subscribers.publish(Batch(tuple(source.log[90:]), after(100)))
    feed = Feed(source, subscribers)
    feed.running = True
    feed.started.set()
    readiness = Readiness(feed)
    app = application(settings, Everyone(SingleStream()), source, subscribers, readiness, ROOT / "static")
    return Service(
        settings, source, feed, subscribers, Keeper(settings, history, subscribers, source), readiness, app
    )
