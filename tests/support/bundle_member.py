"""A client of a bundle that comes back for ever, to one server after the other."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

from tests.support.copies import Copy
from tests.support.raw_client import RawClient, Received

Changed = dict[str, dict[str, Any] | None]
"""Documents by the text of their `_id`, as an envelope has shown them last; None for one that is gone."""


class BundleMember:
    """Holds the result sets of a bundle, and the documents that its part of changes has shown.

    `check` is awaited after each commit. The member leaves at random, and begins a part anew at times.
    """

    def __init__(
        self,
        ports: Sequence[int],
        subscriptions: Mapping[str, Mapping[str, Any]],
        seed: int,
        check: Callable[[BundleMember], Awaitable[None]],
    ) -> None:
        self.copies: dict[str, Copy] = {}
        self.changed: Changed = {}
        self.position = ""
        self.connects = 0
        self.resumed = 0
        """Number of result sets that were resumed without a snapshot."""
        self.snapshots = 0
        self._ports = ports
        self._subscriptions = subscriptions
        self._chance = random.Random(seed)
        self._check = check
        self._names: dict[str, str] = {}
        self._pending: list[tuple[str, str, dict[str, Any]]] = []
        """Events that no commit has followed yet."""

    async def run(self) -> None:
        """Follow until cancelled. Raises AssertionError when something is not as it was promised."""
        while True:
            client = RawClient(self._chance.choice(self._ports), body=self._body())
            with closing(client):
                try:
                    await client.connect()
                    await self._follow(client)
                except (OSError, EOFError):
                    pass  # the server was killed
            await asyncio.sleep(0.02)

    def _body(self) -> bytes:
        wanted = {name: dict(each) for name, each in self._subscriptions.items()}
        body: dict[str, Any] = {"subscriptions": wanted}
        if self.position:
            body["since"] = self.position
            for each in wanted.values():
                if each.get("mode") == "live" and self._chance.random() < 0.1:
                    each["snapshot"] = True
        return json.dumps(body).encode()

    async def _follow(self, client: RawClient) -> None:
        """Read a connection for some commits, and some events of the next one."""
        assert client.status == 200
        self.connects += 1
        self._names, self._pending = {}, []
        held = {name: copy.held for name, copy in self.copies.items()}
        self.copies = {
            name: Copy(held.get(name))
            for name, each in self._subscriptions.items()
            if each.get("mode", "changes") != "changes"
        }
        # At times, it leaves before it is true.
        commits, more = self._chance.choice((0, 1, 20, 50)), self._chance.randrange(20)
        while commits or more:
            try:
                event = await client.next()
            except AssertionError as error:
                raise EOFError(str(error)) from None  # the stream has ended
            if event.event in ("bye", "problem"):
                return
            await self._take(event)
            if commits:
                commits -= event.event == "commit"
            else:
                more -= 1

    async def _take(self, event: Received) -> None:
        data = json.loads(event.data)
        match event.event:
            case "feed":
                pass
            case "opened":
                self._names = {tag: name for name, tag in data.items()}
            case "commit":
                for name, kind, one in self._pending:
                    self._apply(name, kind, one)
                self._pending = []
                assert event.id
                self.position = event.id
                assert all(copy.is_true for copy in self.copies.values()), (
                    "a commit before all parts are true"
                )
                await self._check(self)
            case kind:
                self._pending.append((self._names[data.pop("of")], kind, data))

    def _apply(self, name: str, kind: str, data: dict[str, Any]) -> None:
        if name in self.copies:
            self.resumed += bool(data.get("resumed"))
            self.snapshots += kind == "live" and not data.get("resumed")
            self.copies[name].apply(kind, data)
        elif kind == "reset":
            self.changed.clear()
        else:
            self.changed[json.dumps(data["id"])] = data["doc"]
