"""Every kind of `_id`, and the text of each in a stream's JSON, by rules of its own."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import orjson
from bson import Decimal128, Int64, ObjectId

LARGEST_EXACT = 2**53
DAY = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def make(writer: int, number: int) -> Any:
    """The `_id` of a writer's document: all kinds in turn, none twice."""
    here = writer * 1_000_000 + number
    if (writer, number) == (1, 0):
        return None
    if writer == 2 and number < 2:
        return bool(number)
    kinds = (
        lambda: here,
        lambda: Int64(LARGEST_EXACT + 1 + here),
        lambda: here + 0.5,
        lambda: Decimal128(f"{here}.25"),
        lambda: f"s{writer}-{number}",
        lambda: {"w": writer, "at": {"n": number}},
        lambda: ObjectId(f"{here:024x}"),
        lambda: DAY + datetime.timedelta(milliseconds=here),
        lambda: uuid.UUID(int=here),
    )
    return kinds[number % len(kinds)]()


def text(id: Any) -> bytes:
    """How `types=json` writes it, as docs/protocol.md says."""
    return orjson.dumps(_plain(id))


def _plain(id: Any) -> Any:
    match id:
        case None | bool() | float() | str():
            return id
        case int():
            return int(id) if abs(id) <= LARGEST_EXACT else str(int(id))
        case datetime.datetime():
            return id.strftime("%Y-%m-%dT%H:%M:%S.") + f"{id.microsecond // 1000:03d}Z"
        case dict():
            return {name: _plain(value) for name, value in id.items()}
    return str(id)


class Keys:
    """Small numbers for texts, so that a record of millions of events stays small."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}

    def number(self, text: bytes) -> int:
        return self._numbers.setdefault(text, len(self._numbers) + 1)
