"""A rule of the protocol, and the circumstances under which it can be checked."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from conformance.target import Target
from conformance.writer import Writer


class Breach(Exception):
    """The server does not keep a rule. The message says what it did."""


class Needs(enum.Enum):
    """The condition for checking a rule; its value is the reason for leaving the rule out."""

    NOTHING = ""
    DOCUMENTS = "this server has no collections"
    WRITES = "needs --mongo URI"
    GUARD = "needs --token"


@dataclass(frozen=True, slots=True)
class Subject:
    """The server that is judged, and the means for it."""

    target: Target
    collection: str
    """The name of a stream with documents; empty if there is none."""
    writer: Writer | None
    keep_alive_seconds: float

    @property
    def path(self) -> str:
        """The path of the stream that most rules open."""
        return f"/stream/{self.collection}" if self.collection else "/stream"

    @property
    def write(self) -> Writer:
        assert self.writer is not None
        return self.writer

    def has(self, needs: Needs) -> bool:
        has = {
            Needs.DOCUMENTS: bool(self.collection),
            Needs.WRITES: self.writer is not None,
            Needs.GUARD: bool(self.target.token),
        }
        return has.get(needs, True)


@dataclass(frozen=True, slots=True)
class Rule:
    """One promise of docs/protocol.md. `check` raises Breach."""

    name: str
    promise: str
    check: Callable[[Subject], None] = field(repr=False)
    needs: Needs = Needs.NOTHING


def expect(condition: object, said: str) -> None:
    """Raise Breach if the condition does not hold."""
    if not condition:
        raise Breach(said)


def equal(found: object, wanted: object, of: str) -> None:
    """Raise Breach if two values differ."""
    expect(found == wanted, f"{of} is {found!r:.300}, not {wanted!r:.300}")
