"""`/healthz` and `/readyz`, for whoever watches over the process."""

from __future__ import annotations

from http import HTTPStatus

from brook.readiness import Readiness
from handlers.base import STATUS, ProblemHandler
from handlers.cors import Cors


class HealthHandler(ProblemHandler):
    """Whether the process works at all. When it does not answer, restart it."""

    def get(self) -> None:
        """Always 200."""
        self.set_header("Cache-Control", "no-store")
        self.finish({"status": "ok"})


class ReadyHandler(ProblemHandler):
    """Whether new clients should be sent here."""

    def initialize(self, cors: Cors, readiness: Readiness) -> None:  # type: ignore[override]
        super().initialize(cors)
        self._readiness = readiness

    def get(self) -> None:
        """200, or 503 with the reasons."""
        reasons = self._readiness.reasons()
        self.set_header("Cache-Control", "no-store")
        self.set_status(STATUS["not-ready"] if reasons else HTTPStatus.OK)
        self.finish({"ready": not reasons, "reasons": reasons})
