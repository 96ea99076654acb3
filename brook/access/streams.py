"""The streams that the configuration names, as one client may read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from brook import bundles
from brook.access.claims import Claims
from brook.access.grant import Grant
from brook.access.rules import StreamRules
from brook.access.signed import signed_streams
from brook.bundles import DEFAULT, BundleRequest
from brook.catalog import StreamInfo
from brook.errors import ClientError, UnknownStream
from brook.namespaces import Namespaces, listed
from brook.parameters import subscription
from brook.subscription import Mode, Subscription


class Policy:
    """All configured streams, and the collections that the server follows."""

    def __init__(self, streams: Sequence[StreamRules], followed: Namespaces, *, signed: bool) -> None:
        self._streams = {stream.name: stream for stream in streams}
        self._followed = followed
        self._signed = signed

    def of(self, claims: Claims | None) -> GrantedStreams:
        """Return the streams of a client with these claims; None stands for a client without a token.

        Raises Forbidden if the claims define an invalid stream.
        """
        signed = signed_streams(claims, self._followed) if self._signed and claims else {}
        return GrantedStreams(signed | self._streams, claims)


class GrantedStreams:
    """The streams of one client. Every subscription that it makes is within the client's grant."""

    def __init__(self, streams: Mapping[str, StreamRules], claims: Claims | None) -> None:
        self._streams = streams
        self._claims = claims

    def subscription(self, stream: str | None, parameters: Mapping[str, Sequence[str]]) -> Subscription:
        grant = self.grant(stream or DEFAULT)
        database, _, collection = grant.namespace.partition(".")
        wanted = subscription(Namespaces(database, [collection]), grant.namespace, parameters)
        return grant.restrict(wanted)

    def bundle(self, body: bytes) -> BundleRequest:
        return bundles.parse(body, self.subscription)

    def catalog(self) -> Sequence[StreamInfo]:
        infos = []
        for name in sorted(self._streams):
            with suppress(ClientError):
                infos.append(_info(name, self._streams[name].grant(self._claims)))
        return infos

    def grant(self, name: str) -> Grant:
        """Return the client's part of a stream. Raises UnknownStream, Unauthenticated or Forbidden."""
        if name not in self._streams:
            raise UnknownStream(f"there is no stream {name[:100]!r}; {listed(self.catalog())}")
        return self._streams[name].grant(self._claims)


def _info(name: str, grant: Grant) -> StreamInfo:
    modes = [mode for mode in Mode if mode in grant.modes]
    fields = grant.client_filter
    if fields is None and grant.fields is not None and not grant.fields.excluding:
        fields = sorted(grant.fields.names)
    return StreamInfo("" if name == DEFAULT else name, grant.namespace, modes, fields)
