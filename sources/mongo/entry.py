"""One entry of a change stream: its token and its operation, read where MongoDB writes them."""

from __future__ import annotations

from typing import Any

from bson.raw_bson import RawBSONDocument

_ID = b"\x03_id\0"
_DATA = b"\x02_data\0"
_OPERATION = b"\x02operationType\0"
_ID_AT = 4 + len(_ID)
_DATA_AT = _ID_AT + 4
_STRING_AT = _DATA_AT + len(_DATA)


class Entry:
    """An entry, not decoded.

    MongoDB writes `{_id: {_data: "...", ...}, operationType: "...", ...}`. Both strings are read at their
    offsets: letting the driver find the fields took a third of the time to read the log. An entry that begins
    differently, such as a fragment, is left to the driver.
    """

    __slots__ = ("is_fragment", "operation", "raw", "token")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.token = ""
        """The `_data` of its resume token."""
        self.operation = ""
        self.is_fragment = False
        if raw[4:_ID_AT] == _ID and raw[_DATA_AT:_STRING_AT] == _DATA:
            after_id = _ID_AT + int.from_bytes(raw[_ID_AT:_DATA_AT], "little")
            if raw[after_id : after_id + len(_OPERATION)] == _OPERATION:
                self.token = _string(raw, _STRING_AT)
                self.operation = _string(raw, after_id + len(_OPERATION))
                return
        document = self.document
        self.token = document["_id"]["_data"]
        self.operation = document.get("operationType", "")
        self.is_fragment = "splitEvent" in document

    @property
    def document(self) -> Any:
        """The entry as the driver's lazily decoded document."""
        return RawBSONDocument(self.raw)

    @property
    def resume_token(self) -> Any:
        """The whole token. Without its type bits, MongoDB does not find an event whose `_id` is 1.5."""
        return self.document["_id"]


def _string(raw: bytes, at: int) -> str:
    """The BSON string at an offset: its length, including the final NUL, then its bytes."""
    size = int.from_bytes(raw[at : at + 4], "little")
    return raw[at + 4 : at + 3 + size].decode()
