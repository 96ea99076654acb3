"""Cross-origin access: the headers that let another origin's page read an answer."""

from __future__ import annotations

from brook.settings import Settings

ALLOWED_HEADERS = "Origin, X-Requested-With, Content-Type, Accept, Authorization, Last-Event-ID"


def cors_headers(settings: Settings, origin: str | None) -> dict[str, str]:
    """What a browser needs to let another origin's page read an answer."""
    allowed = settings.cors_origin
    if not allowed:
        return {}
    headers = {"Access-Control-Allow-Headers": ALLOWED_HEADERS}
    if allowed == "*":
        return {"Access-Control-Allow-Origin": "*", **headers}
    # The answer depends on who asks: a shared cache must not give it to another origin.
    vary = {"Vary": "Origin"}
    return {"Access-Control-Allow-Origin": allowed, **vary, **headers} if origin == allowed else vary
