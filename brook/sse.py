"""The wire format of Server-Sent Events, as pure functions.

The rules come from the HTML standard, section 9.2 "Server-sent events"; each is quoted at its place.
"""

from __future__ import annotations

import re

# "id: ... If the field value does not contain U+0000 NULL, then set the last event ID buffer to the field
# value. Otherwise, ignore the field." A field name without a colon is a field with an empty value, so this
# line clears the id. It belongs to the block that follows it.
CLEAR_ID = b"id\n"

# "Authors ... should include a comment line (one starting with a ':' character) every 15 seconds or so."
KEEP_ALIVE = b":\n\n"

# "Lines must be separated by either a CRLF pair, a single LF, or a single CR": a CR inside data
# would end the line as an LF does, and the client would parse the rest as a field.
_LINE_END = re.compile(r"\r\n|\r|\n")
_FORBIDDEN = re.compile(r"[\r\n\0]")


def frame(data: str, *, event: str = "", id: str = "") -> bytes:
    """Encode one event. Each line of `data` becomes a `data:` line; the client joins them with LF.

    Raises ValueError if `event` or `id` contains CR or LF, which would inject fields, or NUL, which would
    make the client ignore the id.
    """
    lines = []
    if id:
        lines.append("id: " + check_field("id", id))
    if event:
        lines.append("event: " + check_field("event", event))
    lines += ["data: " + line for line in _LINE_END.split(data)]
    return ("\n".join(lines) + "\n\n").encode()


def checkpoint(id: str) -> bytes:
    """Encode a block that contains only an id. It sets the client's last event id and dispatches no event.

    The standard sets the last event ID string first; then, "if the data buffer is an empty string, set the
    data buffer and the event type buffer to the empty string and return".
    """
    return f"id: {check_field('id', id)}\n\n".encode()


def retry(milliseconds: int) -> bytes:
    """Encode a reconnection time alone: "if the field value consists of only ASCII digits ..."."""
    if milliseconds < 0:
        raise ValueError(f"retry must not be negative, got {milliseconds}")
    return b"retry: %d\n\n" % milliseconds


def farewell(event: str, data: str, retry_ms: int) -> bytes:
    """Encode the last event of a connection and the reconnection time.

    One block holds both, so a client cannot receive one without the other.
    """
    return retry(retry_ms)[:-1] + frame(data, event=event)


def check_field(name: str, value: str) -> str:
    """Return the value of a field. Raises ValueError for CR, LF or NUL."""
    if _FORBIDDEN.search(value):
        raise ValueError(f"{name} must not contain CR, LF or NUL: {value!r}")
    return value
