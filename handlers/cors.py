"""Cross-origin access: the headers that let a page of another origin read a response."""

from __future__ import annotations

ALLOWED_HEADERS = "Origin, X-Requested-With, Content-Type, Accept, Authorization, Last-Event-ID"


class Cors:
    """The allowed origin: `*` for any, empty for none."""

    def __init__(self, allowed: str) -> None:
        self._allowed = allowed

    def headers(self, origin: str | None) -> dict[str, str]:
        """Return the CORS headers of the response to a request with this `Origin`."""
        if not self._allowed:
            return {}
        headers = {"Access-Control-Allow-Headers": ALLOWED_HEADERS}
        if self._allowed == "*":
            return {"Access-Control-Allow-Origin": "*", **headers}
        # Without Vary, a shared cache would serve the response to another origin.
        vary = {"Vary": "Origin"}
        return (
            {"Access-Control-Allow-Origin": self._allowed, **vary, **headers}
            if origin == self._allowed
            else vary
        )
