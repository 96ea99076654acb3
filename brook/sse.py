"""The wire format of Server-Sent Events, as pure functions.

The rules are those of the HTML standard, section 9.2 "Server-sent events"; each is quoted where it
applies.
"""

from __future__ import annotations

import re

# "id: ... If the field value does not contain U+0000 NULL, then set the last event ID buffer to the
# field value. Otherwise, ignore the field." A bare field name is a field with an empty value, so
# this clears the id. It belongs to the block that follows.
CLEAR_ID = b"id\n"

# "Authors ... should include a comment line (one starting with a ':' character) every 15 seconds or so."
KEEP_ALIVE = b":\n\n"

# "Lines must be separated by either a CRLF pair, a single LF, or a single CR": a CR inside data would
# end the line as surely as an LF, and what follows it would be read as a field.
_LINE_END = re.compile(r"\r\n|\r|\n")
_FORBIDDEN = re.compile(r"[\r\n\0]")


def frame(data: str, *, event: str = "", id: str = "") -> bytes:
    """One event. Every line of `data` becomes a `data:` line; the client joins them with LF.

    Raises ValueError for CR, LF or NUL in `event` or `id`: they would inject fields, or make the
    client ignore the id.
    """
    lines = []
    if id:
        lines.append("id: " + check_field("id", id))
    if event:
        lines.append("event: " + check_field("event", event))
    lines += ["data: " + line for line in _LINE_END.split(data)]
    return ("\n".join(lines) + "\n\n").encode()


def checkpoint(id: str) -> bytes:
    """A block with only an id: it moves the client's last event id and fires nothing.

    "If the data buffer is an empty string, set the data buffer and the event type buffer to the
    empty string and return" - after the last event ID string was set.
    """
    return f"id: {check_field('id', id)}\n\n".encode()


def retry(milliseconds: int) -> bytes:
    """A block with only a reconnection time: "if the field value consists of only ASCII digits ..."."""
    if milliseconds < 0:
        raise ValueError(f"retry must not be negative, got {milliseconds}")
    return b"retry: %d\n\n" % milliseconds


def farewell(event: str, data: str, retry_ms: int) -> bytes:
    """The last event before the connection ends, and in the same block when to come back: a client that
    reads the one has the other.
    """
    return retry(retry_ms)[:-1] + frame(data, event=event)


def check_field(name: str, value: str) -> str:
    """Return the value of a field. Raises ValueError for CR, LF or NUL: they would inject fields."""
    if _FORBIDDEN.search(value):
        raise ValueError(f"{name} must not contain CR, LF or NUL: {value!r}")
    return value
