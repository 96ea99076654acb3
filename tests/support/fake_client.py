"""A client of a MongoDB that is not at hand: an old one, one with a wrong clock, a mongos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo.errors import AutoReconnect, OperationFailure
from pymongo.hello import Hello
from pymongo.server_description import ServerDescription

from sources.mongo import errors

PRIMARY = {"isWritablePrimary": True, "setName": "rs0", "primary": "a:1"}
SECONDARY = {"isWritablePrimary": False, "secondary": True, "setName": "rs0"}
STARTING = {"isWritablePrimary": False, "secondary": False, "setName": "rs0"}
ARBITER = {"isWritablePrimary": False, "arbiterOnly": True, "setName": "rs0"}


def answering(address: str, hello: Mapping[str, Any]) -> ServerDescription:
    """A server that has answered the driver."""
    host, _, port = address.partition(":")
    return ServerDescription((host, int(port)), Hello({"ok": 1, **hello}))


def silent(address: str, *, refused: bool = True) -> ServerDescription:
    """A server that has refused the driver's connection, or has not answered yet."""
    host, _, port = address.partition(":")
    return ServerDescription((host, int(port)), error=AutoReconnect("refused") if refused else None)


class FakeClient:
    """A client that answers what the check asks first, and may do nothing else."""

    def __init__(
        self,
        hello: Mapping[str, Any] = PRIMARY,
        *,
        version: str = "8.0.4",
        wire: int = 25,
        skew_seconds: float = 0,
        journal_ms: int | None = None,
        servers: Sequence[ServerDescription] = (),
    ) -> None:
        self._skew = timedelta(seconds=skew_seconds)
        self._servers = servers or [answering("a:1", hello)]
        journal = {} if journal_ms is None else {"journal": {"commitIntervalMs": journal_ms}}
        self._answers: dict[str, dict[str, Any]] = {
            "hello": {"maxWireVersion": wire, "hosts": ["a:1", "b:2", "c:3"], **hello},
            "buildInfo": {"version": version, "versionArray": [*map(int, version.split(".")), 0]},
            "getCmdLineOpts": {"parsed": {"storage": journal}},
        }

    @property
    def admin(self) -> FakeClient:
        return self

    @property
    def local(self) -> FakeClient:
        return self

    @property
    def topology_description(self) -> FakeClient:
        return self

    def server_descriptions(self) -> dict[tuple[str, int | None], ServerDescription]:
        return {server.address: server for server in self._servers}

    def __getitem__(self, name: str) -> FakeClient:
        raise OperationFailure(f"not authorized on {name}", errors.UNAUTHORIZED)

    async def command(self, command: str | Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(command, str) or command not in self._answers:
            raise OperationFailure("not authorized", errors.UNAUTHORIZED)
        now = datetime.now(UTC).replace(tzinfo=None) + self._skew
        return {**self._answers[command], "localTime": now}
