"""The streams that a request can name: their interface, and the stream of a source without collections."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Protocol

from brook.bundles import BundleRequest
from brook.catalog import StreamInfo
from brook.errors import InvalidParameter, UnknownStream
from brook.subscription import Mode, Subscription


class Streams(Protocol):
    """Turns the path and the query of a request into a subscription."""

    def subscription(self, stream: str | None, parameters: Mapping[str, Sequence[str]]) -> Subscription:
        """Return the subscription for `/stream` or `/stream/{stream}` with these parameters (without
        `since`).

        Raises ClientError for a stream or a parameter that does not exist.
        """

    def bundle(self, body: bytes) -> BundleRequest:
        """Return the bundle for the body of `POST /stream`. Raises ClientError."""

    def catalog(self) -> Sequence[StreamInfo]:
        """Return the streams that can be named."""


class SingleStream:
    """`/stream` without parameters. If `private`, the source addresses each client separately."""

    def __init__(self, *, private: bool = False) -> None:
        self._private = private
        self._recipients = itertools.count(1)

    def subscription(self, stream: str | None, parameters: Mapping[str, Sequence[str]]) -> Subscription:
        if stream is not None:
            raise UnknownStream(f"there is no stream {stream[:100]!r}, only /stream")
        for name in parameters:
            raise InvalidParameter(f"unknown parameter {name[:50]!r}; the only parameter is: since")
        return Subscription(recipient=next(self._recipients)) if self._private else Subscription()

    def bundle(self, body: bytes) -> BundleRequest:
        raise UnknownStream("this server has only one stream: GET /stream")

    def catalog(self) -> Sequence[StreamInfo]:
        return [StreamInfo("", None, modes=(Mode.CHANGES,), fields=())]
