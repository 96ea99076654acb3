"""`/healthz` and `/readyz`, for load balancers and process supervisors."""

from __future__ import annotations

from http import HTTPStatus

from brook.readiness import Readiness
from handlers.base import STATUS, ProblemHandler
from handlers.cors import Cors
from handlers.descriptors import Descriptors


class HealthHandler(ProblemHandler):
    """Answers as long as the process works. Restart the process when it does not answer."""

    allowed_methods = "GET, HEAD, OPTIONS"

    def head(self) -> None:
        """The same without its body: so some load balancers ask."""
        self.get()

    def get(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.finish({"status": "ok"})


class ReadyHandler(ProblemHandler):
    """Tells a load balancer if it may send new clients to this server."""

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
        """Respond with 200, or with 503 and the reasons."""
        reasons = self._readiness.reasons() + self._descriptors.reasons()
        self.set_header("Cache-Control", "no-store")
        self.set_status(STATUS["not-ready"] if reasons else HTTPStatus.OK)
        self.finish({"ready": not reasons, "reasons": reasons})
