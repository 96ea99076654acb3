"""Positions in MongoDB's log: resume tokens, and the checkpoints between them.

A token's `_data` is a hexadecimal KeyString: the byte 0x82 for a timestamp, then the cluster time as
four bytes of seconds and four of increment, big-endian, then bytes that tell apart events of one time.
So tokens sort as strings in log order (mongo's `ResumeToken` and `KeyString` sources).
"""

from __future__ import annotations

import re

from brook.errors import InvalidId
from brook.event import Position

_TOKEN = re.compile(r"82[0-9A-F]{16}(?:[0-9A-F]{2})+")
_CHECKPOINT = re.compile(r"t([0-9]{1,10})\.([0-9]{1,10})")
_UINT32 = 2**32 - 1

ClusterTime = tuple[int, int]
"""Seconds since 1970, and the increment that tells apart operations of one second."""


def position(id: str) -> Position:
    """The position that an id names: a token's event, or a checkpoint. Raises InvalidId."""
    if _TOKEN.fullmatch(id):
        return Position(id, id)
    if match := _CHECKPOINT.fullmatch(id):
        seconds, increment = int(match[1]), int(match[2])
        if seconds <= _UINT32 and increment <= _UINT32:
            return checkpoint((seconds, increment))
    raise InvalidId("an event id is a resume token in hexadecimal, or a checkpoint t<seconds>.<increment>")


def checkpoint(time: ClusterTime) -> Position:
    """The position after every event with this cluster time.

    Its key is the common prefix of the tokens and a character above every digit. So it sorts after
    all tokens of this time and before the tokens of the next.
    """
    seconds, increment = time
    return Position(f"82{seconds:08X}{increment:08X}~", f"t{seconds}.{increment}", exact=False)


def cluster_time(key: str) -> ClusterTime:
    """The cluster time of a token, or of a position's key."""
    return int(key[2:10], 16), int(key[10:18], 16)


def just_before(time: ClusterTime) -> ClusterTime:
    """The last cluster time before this one."""
    seconds, increment = time
    return (seconds, increment - 1) if increment else (seconds - 1, _UINT32)


def just_after(time: ClusterTime) -> ClusterTime:
    """The first cluster time after this one."""
    seconds, increment = time
    return (seconds, increment + 1) if increment < _UINT32 else (seconds + 1, 0)


def same_time(one: str, other: str) -> bool:
    """True if two tokens have the same cluster time."""
    return one[:18] == other[:18]


def start(after: Position) -> ClusterTime:
    """The cluster time from which to read the events after a position.

    For an event's position it is the event's own time: more events of its transaction may follow.
    """
    time = cluster_time(after.key)
    return just_after(time) if after.key.endswith("~") else time
