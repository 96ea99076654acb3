"""Clients that come back for ever, to either server, and record what they were sent."""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections import Counter
from typing import Any

import orjson

from tests.chaos import guard
from tests.chaos.keys import Keys
from tests.chaos.queries import ChangesQuery, LiveQuery
from tests.chaos.records import ChangesRecord, Gap, LiveRecord
from tests.chaos.truth import cluster_time
from tests.chaos.wire import Connection

KINDS = (("1.1", "identity"), ("1.0", "identity"), ("1.1", "gzip"))
"""The HTTP version and the coding that a client asks for."""
FEW = 3


def time_of(id: str) -> int:
    """The cluster time of an id: `t1795328801.7`, or with a check after it."""
    if not id.startswith("t"):
        return 0
    seconds, _, increment = id[1:].partition("-")[0].partition(".")
    return cluster_time(int(seconds), int(increment))


class Client(ABC):
    """One client. It keeps the last id, waits for as long as `retry` said, and goes to the next port."""

    record: ChangesRecord | LiveRecord

    def __init__(
        self,
        query: ChangesQuery | LiveQuery,
        ports: list[int],
        kind: tuple[str, str],
        turn: int,
        keys: Keys,
    ) -> None:
        self.keys = keys
        self.ports = ports
        self.path = query.path
        self.token = "" if query.claims is None else guard.token(query.claims)
        self.last_id = ""
        self.position = 0
        """The cluster time of the last id."""
        self.connects = 0
        self.events: Counter[str] = Counter()
        self.failures: list[str] = []
        self._kind = kind
        self._turn = turn
        self._retry_ms = 100
        self._connection: Connection | None = None
        self._away = False
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()

    @abstractmethod
    def receive(self, event: str, data: Any, id: str) -> None:
        """An event has come; `id` is the last one."""

    def gap(self, place: int, reason: str, since: str) -> Gap:
        return Gap(place, reason, time_of(since), time.time())

    # -- the connection ----------------------------------------------------------------------------

    def start(self) -> None:
        if not self._closed and not self._away:
            task = asyncio.create_task(self._connect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def cut(self) -> None:
        if self._connection is not None:
            self._connection.abort()

    def leave(self) -> None:
        """Stay away until told to `come`."""
        self._away = True
        self.cut()

    def come(self) -> None:
        self._away = False
        if self._connection is None:
            self.start()

    def rest(self) -> None:
        if self._connection is not None:
            self._connection.rest()

    def go_on(self) -> None:
        if self._connection is not None:
            self._connection.go_on()

    def close(self) -> None:
        self._closed = True
        self.cut()

    async def _connect(self) -> None:
        self._turn += 1
        port = self.ports[self._turn % len(self.ports)]
        connection = Connection(self, self.path, *self._kind, self.last_id, self.token)
        self._connection = connection
        try:
            await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", port)
        except OSError:
            self.ended()

    def opened(self) -> None:
        self.connects += 1

    def failed(self, why: str) -> None:
        """It has been sent something that no client can use: an EventSource would have stopped for good."""
        if len(self.failures) < FEW:
            self.failures.append(why)

    def ended(self) -> None:
        self._connection = None
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop().call_later(self._retry_ms / 1000, self._return)

    def _return(self) -> None:
        if self._connection is None:
            self.start()

    # -- the events --------------------------------------------------------------------------------

    def block(self, lines: list[bytes]) -> None:
        event, data, has_id = "message", b"", False
        for line in lines:
            if line.startswith(b"data: "):
                data = line[6:]
            elif line.startswith(b"id"):
                self.last_id = line[4:].decode()
                self.position = time_of(self.last_id) or self.position
                has_id = True
            elif line.startswith(b"event: "):
                event = line[7:].decode()
            elif line.startswith(b"retry: "):
                self._retry_ms = min(int(line[7:]), 500)
        if data:
            self._dispatch(event, data)
        elif has_id and self.record.start is None:
            self.record.start = self.position

    def _dispatch(self, event: str, data: bytes) -> None:
        self.events[event] += 1
        if event in ("bye", "problem", "feed"):
            return
        try:
            self.receive(event, orjson.loads(data), self.last_id)
        except (KeyError, ValueError, TypeError, AssertionError) as error:
            self.failed(f"{event} {data[:200]!r}: {error!r}")


class ChangesClient(Client):
    """Records each change."""

    def __init__(self, query: ChangesQuery, *arguments: Any) -> None:
        super().__init__(query, *arguments)
        self.query = query
        self.record = ChangesRecord()

    def receive(self, event: str, data: Any, id: str) -> None:
        if event == "reset":
            self.record.gaps.append(self.gap(len(self.record), data["reason"], data.get("since", "")))
            return
        if self.query.envelope:
            key, stamp = data["id"], self._stamp(event, data)
        else:
            assert event in ("message", "delete")
            key, stamp = data["_id"], data.get("n", 0)
            assert event == "delete" or stamp
        self.record.add(time_of(id), self.keys.number(orjson.dumps(key)), stamp)

    def _stamp(self, event: str, data: Any) -> int:
        match event:
            case "insert":
                return int(data["doc"]["n"])
            case "update":
                stamp = int(data["changed"]["set"]["n"])
                assert data["doc"] is None or data["doc"]["n"] >= stamp, "a document of before the update"
                return stamp
            case "delete":
                return 0
        raise ValueError(event)


class LiveClient(Client):
    """Holds the result set as docs/protocol.md tells a page to, and records a digest of each state."""

    def __init__(self, query: LiveQuery, *arguments: Any) -> None:
        super().__init__(query, *arguments)
        self.query = query
        self.record = LiveRecord()
        self.held: dict[int, int] = {}
        """The stamp of each document, by key; in a window, in order."""
        self.count = 0
        self._coming: dict[int, int] = {}
        self._digest = 0
        self._is_true = False

    def opened(self) -> None:
        super().opened()
        self._coming = {}
        # Until `live`, it may be sent again what it has.
        self._is_true = False

    def receive(self, event: str, data: Any, id: str) -> None:
        match event:
            case "snapshot":
                self._coming |= {self._key(each["_id"]): each["n"] for each in data["docs"]}
                return
            case "live":
                self._become_true(data)
            case "count":
                self.count = data["count"]
                self.record.changes += 1
                self._is_true = True
            case "changes":
                for change in data["changes"]:
                    self._change(change)
                self.record.changes += len(data["changes"])
        if self._is_true:
            self.record.add(time_of(id), self.count if self.query.counts else self._state())

    def holds(self, documents: list[tuple[int, int]]) -> bool:
        """True if it holds these keys and stamps; a window in this order."""
        if self.query.counts:
            return self.count == len(documents)
        held = list(self.held.items())
        return held == documents if self.query.window else sorted(held) == sorted(documents)

    def _state(self) -> int:
        return self.query.digest(self.held.values()) if self.query.window else self._digest

    def _become_true(self, data: Any) -> None:
        if not data.get("resumed"):
            self.held, self._coming = self._coming, {}
            self._digest = 0 if self.query.window else self.query.digest(self.held.values())
        if reason := data.get("reason"):
            self.record.gaps.append(self.gap(len(self.record), reason, ""))
        self._is_true = True
        assert len(self.held) == data["count"], f"holds {len(self.held)}"

    def _key(self, id: Any) -> int:
        return self.keys.number(orjson.dumps(id))

    def _change(self, change: Any) -> None:
        key = self._key(change["id"])
        old = self.held.get(key)
        if change["op"] == "remove":
            self.held.pop(key, None)
            new = None
        else:
            new = change["doc"]["n"]
            if "before" in change:
                self._place(key, new, change["before"])
            else:
                self.held[key] = new
        if not self.query.window:
            added = 0 if new is None else self.query.digest((new,))
            removed = 0 if old is None else self.query.digest((old,))
            self._digest = (self._digest + added - removed) % 2**64

    def _place(self, key: int, stamp: int, before: Any) -> None:
        """A window: in front of the given document, once it was taken out of its old place."""
        rest = [each for each in self.held.items() if each[0] != key]
        place = len(rest)
        if before is not None:
            place = [each[0] for each in rest].index(self._key(before))
        self.held = dict([*rest[:place], (key, stamp), *rest[place:]])
