"""Cross-origin access: the headers that let a page of another origin read a response."""

from __future__ import annotations

from collections.abc import Collection

ALLOWED_HEADERS = "Origin, X-Requested-With, Content-Type, Accept, Authorization, Last-Event-ID"

# Time for which a browser may keep the answer to a preflight. Chromium keeps it for two hours at most.
PREFLIGHT_SECONDS = 7200


class Cors:
    """The allowed origins: `*` for any, empty for none."""

    def __init__(self, allowed: Collection[str]) -> None:
        self._any = "*" in allowed
        self._allowed = frozenset(filter(None, allowed))

    def names(self, origin: str) -> bool:
        """True if the operator has named this origin itself, not `*`."""
        return not self._any and origin in self._allowed

    def headers(self, origin: str | None) -> dict[str, str]:
        """Return the CORS headers of the response to a request with this `Origin`."""
        if not self._allowed:
            return {}
        if self._any:
            # Never with credentials: a page of any site could then read as the user that visits it.
            return {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": ALLOWED_HEADERS}
        # Without Vary, a shared cache would serve the response to another origin.
        vary = {"Vary": "Origin"}
        if origin not in self._allowed:
            return vary
        return {
            "Access-Control-Allow-Origin": str(origin),
            "Access-Control-Allow-Credentials": "true",
            **vary,
            "Access-Control-Allow-Headers": ALLOWED_HEADERS,
        }
