"""The streams that a request can name: the one of a source without collections."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Protocol

from brook.errors import InvalidParameter, UnknownStream
from brook.subscription import Subscription


class Streams(Protocol):
    """The meaning of a request's path and query."""

    def subscription(self, stream: str | None, parameters: Mapping[str, Sequence[str]]) -> Subscription:
        """The subscription for `/stream`, or `/stream/{stream}`, with these parameters (all but `since`).

        Raises ClientError for a stream or a parameter that does not exist.
        """


class SingleStream:
    """`/stream` alone, with nothing to choose. If `private`, each client is addressed by itself."""

    def __init__(self, *, private: bool = False) -> None:
        self._private = private
        self._recipients = itertools.count(1)

    def subscription(self, stream: str | None, parameters: Mapping[str, Sequence[str]]) -> Subscription:
        if stream is not None:
            raise UnknownStream(f"there is no stream {stream[:100]!r}, only /stream")
        for name in parameters:
            raise InvalidParameter(f"unknown parameter {name[:50]!r}; there is: since")
        return Subscription(recipient=next(self._recipients)) if self._private else Subscription()
