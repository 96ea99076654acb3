"""Cross-origin access: the headers that let another origin's page read an answer."""

from __future__ import annotations

ALLOWED_HEADERS = "Origin, X-Requested-With, Content-Type, Accept, Authorization, Last-Event-ID"


class Cors:
    """The origins whose pages may read an answer: `*` for any, empty for none."""

    def __init__(self, allowed: str) -> None:
        self._allowed = allowed

    def headers(self, origin: str | None) -> dict[str, str]:
        """The response headers for a request's `Origin`."""
        if not self._allowed:
            return {}
        headers = {"Access-Control-Allow-Headers": ALLOWED_HEADERS}
        if self._allowed == "*":
            return {"Access-Control-Allow-Origin": "*", **headers}
        # The answer depends on the Origin: a shared cache must not give it to another one.
        vary = {"Vary": "Origin"}
        return (
            {"Access-Control-Allow-Origin": self._allowed, **vary, **headers}
            if origin == self._allowed
            else vary
        )
