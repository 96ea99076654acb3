"""Positions in MongoDB's log: the ids of events, and the checkpoints between them.

An event's id is `t<seconds>.<increment>-<check>`: its cluster time, and a hash of its resume token. It is
short, holds no `_id`, and proves itself: the log is read from the cluster time on, until an event has this
check. A resume token (the ids of older versions) is taken for the id that it leads to.

A token's `_data` is a hexadecimal KeyString: the byte 0x82 for a timestamp, then the cluster time as
four bytes of seconds and four of increment, big-endian, then bytes that tell apart events of one time
(mongo's `ResumeToken` and `KeyString` sources).
"""

from __future__ import annotations

import re
from hashlib import blake2b

from brook.errors import InvalidId
from brook.event import Position

_TOKEN = re.compile(r"82[0-9A-F]{16}(?:[0-9A-F]{2})+")
_EVENT = re.compile(r"t([0-9]{1,10})\.([0-9]{1,10})-[0-9a-f]{16}")
_CHECKPOINT = re.compile(r"t([0-9]{1,10})\.([0-9]{1,10})")
_UINT32 = 2**32 - 1

# 64 bits: two events of one cluster time have the same check with a probability of 5 in 10^20.
_CHECK_BYTES = 8

# Sorts after every digit.
_END = "~"

ClusterTime = tuple[int, int]
"""Seconds since 1970, and the increment that tells apart operations of one second."""


def position(id: str) -> Position:
    """The position that an id names: an event's, or a checkpoint. Raises InvalidId."""
    if _TOKEN.fullmatch(id):
        id = event_id(id)
    for form in (_EVENT, _CHECKPOINT):
        if match := form.fullmatch(id):
            time = int(match[1]), int(match[2])
            # MongoDB's log cannot be read from after the last of all times.
            if max(time) <= _UINT32 and time < (_UINT32, _UINT32):
                return _event_position(id, time) if form is _EVENT else checkpoint(time)
    raise InvalidId(
        "an event id is t<seconds>.<increment>-<16 digits>, a checkpoint t<seconds>.<increment>; "
        "a resume token in hexadecimal is also accepted"
    )


def event_id(token: str) -> str:
    """The SSE id of the event with a resume token's `_data`."""
    seconds, increment = token_time(token)
    check = blake2b(token.encode("ascii"), digest_size=_CHECK_BYTES).hexdigest()
    return f"t{seconds}.{increment}-{check}"


def event_key(token: str, place: int) -> str:
    """The key of the event with a resume token's `_data`, at its place among those of its time, from 0."""
    return f"{token[2:18]}{place:08X}"


def checkpoint(time: ClusterTime) -> Position:
    """The position after every event with this cluster time.

    Its key is the common prefix of their keys and a character above every digit. So it sorts after
    all events of this time and before the events of the next.
    """
    seconds, increment = time
    return Position(f"{seconds:08X}{increment:08X}{_END}", f"t{seconds}.{increment}", exact=False)


def token_time(token: str) -> ClusterTime:
    """The cluster time of a resume token's `_data`."""
    return int(token[2:10], 16), int(token[10:18], 16)


def cluster_time(key: str) -> ClusterTime:
    """The cluster time of a position's key."""
    return int(key[:8], 16), int(key[8:16], 16)


def just_before(time: ClusterTime) -> ClusterTime:
    """The last cluster time before this one."""
    seconds, increment = time
    return (seconds, increment - 1) if increment else (seconds - 1, _UINT32)


def just_after(time: ClusterTime) -> ClusterTime:
    """The first cluster time after this one."""
    seconds, increment = time
    return (seconds, increment + 1) if increment < _UINT32 else (seconds + 1, 0)


def start(after: Position) -> ClusterTime:
    """The cluster time from which to read the events after a position.

    For an event's position it is the event's own time: more events of its transaction may follow.
    """
    time = cluster_time(after.key)
    return just_after(time) if after.key.endswith(_END) else time


def _event_position(id: str, time: ClusterTime) -> Position:
    """The position of an event whose place in its cluster time is not known yet."""
    seconds, increment = time
    key = f"{seconds:08X}{increment:08X}"
    return Position(key, _shortest(id, time), until=key + _END)


def _shortest(id: str, time: ClusterTime) -> str:
    """An id without leading zeros, as the server writes it: a history compares ids."""
    return f"t{time[0]}.{time[1]}-{id.rpartition('-')[2]}"
