"""Streams that the configuration names, beside the collections: for a server without access rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from brook import bundles
from brook.access.rules import StreamRules
from brook.access.streams import GrantedStreams
from brook.bundles import DEFAULT, BundleRequest
from brook.catalog import StreamInfo
from brook.streams import Streams
from brook.subscription import Subscription


class NamedStreams:
    """The named streams and the collections. A named stream hides a collection of the same name."""

    def __init__(self, streams: Sequence[StreamRules], collections: Streams) -> None:
        self._names = {stream.name for stream in streams}
        self._named = GrantedStreams({stream.name: stream for stream in streams}, None)
        self._collections = collections

    def subscription(self, stream: str | None, parameters: Mapping[str, Sequence[str]]) -> Subscription:
        streams = self._named if (stream or DEFAULT) in self._names else self._collections
        return streams.subscription(stream, parameters)

    def bundle(self, body: bytes) -> BundleRequest:
        return bundles.parse(body, self.subscription)

    def catalog(self) -> Sequence[StreamInfo]:
        named = self._named.catalog()
        taken = {info.name for info in named}
        return [*named, *(info for info in self._collections.catalog() if info.name not in taken)]
