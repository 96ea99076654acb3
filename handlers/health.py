"""`/healthz` and `/readyz`, for whoever watches over the process."""

from __future__ import annotations

from http import HTTPStatus

from brook.readiness import Readiness
from handlers.base import STATUS, ProblemHandler
from handlers.cors import Cors
from handlers.descriptors import Descriptors


class HealthHandler(ProblemHandler):
    """Whether the process works at all. When it does not answer, restart it."""

    allowed_methods = "GET, HEAD, OPTIONS"

    def head(self) -> None:
        """The same without its body: so some load balancers ask."""
        self.get()

    def get(self) -> None:
        """Always 200."""
        self.set_header("Cache-Control", "no-store")
        self.finish({"status": "ok"})


class ReadyHandler(ProblemHandler):
    """Whether new clients should be sent here."""

    allowed_methods = "GET, HEAD, OPTIONS"

    def initialize(  # type: ignore[override]
        self, cors: Cors, readiness: Readiness, descriptors: Descriptors
    ) -> None:
        super().initialize(cors)
        self._readiness = readiness
        self._descriptors = descriptors

    def head(self) -> None:
        """The same without its body."""
        self.get()

    def get(self) -> None:
        """200, or 503 with the reasons."""
        reasons = self._readiness.reasons() + self._descriptors.reasons()
        self.set_header("Cache-Control", "no-store")
        self.set_status(STATUS["not-ready"] if reasons else HTTPStatus.OK)
        self.finish({"ready": not reasons, "reasons": reasons})
