"""`/healthz` and `/readyz`, for load balancers and process supervisors."""

from __future__ import annotations

from http import HTTPStatus

from brook.readiness import Readiness
from handlers.base import STATUS, ProblemHandler
from handlers.cors import Cors


class HealthHandler(ProblemHandler):
    """Answers as long as the process works. Restart the process when it does not answer."""

    def get(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.finish({"status": "ok"})


class ReadyHandler(ProblemHandler):
    """Tells a load balancer if it may send new clients to this server."""

    def initialize(self, cors: Cors, readiness: Readiness) -> None:  # type: ignore[override]
        super().initialize(cors)
        self._readiness = readiness

    def get(self) -> None:
        """Respond with 200, or with 503 and the reasons."""
        reasons = self._readiness.reasons()
        self.set_header("Cache-Control", "no-store")
        self.set_status(STATUS["not-ready"] if reasons else HTTPStatus.OK)
        self.finish({"ready": not reasons, "reasons": reasons})
