"""`/healthz` and `/readyz`, for load balancers and process supervisors."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Protocol

from brook.readiness import Readiness
from handlers.base import STATUS, ProblemHandler
from handlers.cors import Cors


class Room(Protocol):
    """A limit on the number of clients."""

    def reasons(self) -> list[str]:
        """The reasons why no more clients are let in; empty if there are none."""


class HealthHandler(ProblemHandler):
    """Answers while the event loop runs. A process that does not answer should be restarted."""

    allowed_methods = "GET, HEAD, OPTIONS"

    def head(self) -> None:
        """Answer HEAD, which some load balancers send."""
        self.get()

    def get(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.finish({"status": "ok"})


class ReadyHandler(ProblemHandler):
    """Tells a load balancer if it may send new clients to this server."""

    allowed_methods = "GET, HEAD, OPTIONS"

    def initialize(  # type: ignore[override]
        self, cors: Cors, readiness: Readiness, room: Iterable[Room]
    ) -> None:
        super().initialize(cors)
        self._readiness = readiness
        self._room = tuple(room)

    def head(self) -> None:
        """Answer HEAD."""
        self.get()

    def get(self) -> None:
        """Respond with 200, or with 503 and the reasons."""
        full = {reason for room in self._room for reason in room.reasons()}
        reasons = [*self._readiness.reasons(), *full]
        self.set_header("Cache-Control", "no-store")
        self.set_status(STATUS["not-ready"] if reasons else HTTPStatus.OK)
        self.finish({"ready": not reasons, "reasons": reasons})
