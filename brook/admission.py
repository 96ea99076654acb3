"""Admission: the streams that a client may open. Without access rules, every client may open all of them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from brook.streams import Streams


@dataclass(frozen=True, slots=True)
class Credentials:
    """The parts of a request that identify the client."""

    token: str = ""
    """From the header `Authorization: Bearer`, the configured cookie or the query; empty for none."""
    authorization: str = ""
    """The header `Authorization`."""
    cookie: str = ""
    """The header `Cookie`."""
    address: str = ""

    @property
    def asks(self) -> bool:
        """True if the request has a header by which the application may recognise the client."""
        return bool(self.authorization or self.cookie)


class Lease:
    """The time for which a client is let in. The keeper ends its stream when the lease expires."""

    __slots__ = ("__weakref__", "expires", "subject")

    def __init__(self, expires: float = math.inf, subject: str = "") -> None:
        self.expires = expires
        """In seconds since 1970."""
        self.subject = subject
        """The claim `sub`; empty without one."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A client that was let in."""

    streams: Streams
    lease: Lease | None = None
    """None for a client that may stay without a limit of time."""


@dataclass(frozen=True, slots=True)
class Transport:
    """The parts of a request that are searched for credentials."""

    cookie: str = ""
    """The name of the cookie that holds a token; empty for none."""
    query: bool = False
    """True if `?access_token=` is allowed."""
    any_cookie: bool = False
    """True if all cookies are passed on to the application, which knows its own."""


class Admission(Protocol):
    """Lets clients in."""

    transport: Transport | None
    """None if no credentials are needed, ever."""
    asks_others: bool
    """False if `waits` is always False."""

    def waits(self, credentials: Credentials) -> bool:
        """True if `admit` has to ask another server."""

    def at_once(self, credentials: Credentials) -> Admitted:
        """The same as `admit`, for credentials for which it need not wait."""

    async def admit(self, credentials: Credentials, streams: Sequence[str]) -> Admitted:
        """Let in a client that asks for these streams. Raises ClientError."""

    async def open(self) -> None:
        """Get ready."""

    async def run(self) -> None:
        """Renew leases, for ever. Must be awaited."""


class Everyone:
    """Lets everyone in, without asking."""

    transport: Transport | None = None
    asks_others = False

    def __init__(self, streams: Streams) -> None:
        self._admitted = Admitted(streams)

    def waits(self, credentials: Credentials) -> bool:
        return False

    def at_once(self, credentials: Credentials) -> Admitted:
        return self._admitted

    async def admit(self, credentials: Credentials, streams: Sequence[str]) -> Admitted:
        return self._admitted

    async def open(self) -> None:
        """Do nothing."""

    async def run(self) -> None:
        """Do nothing, for ever."""
        await asyncio.Event().wait()
