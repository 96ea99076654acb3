"""The admission by access rules: turns a client's credentials into the streams that the rules open to it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from brook.access.application import Application
from brook.access.claims import Identity
from brook.access.keys import OneKey
from brook.access.published_keys import PublishedKeys
from brook.access.settings import AccessSettings
from brook.access.streams import Policy
from brook.access.tokens import Tokens
from brook.admission import Admitted, Credentials, Lease, Transport


class Fetcher(Protocol):
    """Sends requests to other servers. `handlers/fetch.py` implements it."""

    async def fetch(self, url: str) -> bytes:
        """Return the body at a URL. Raises FetchFailed, also for a status other than 200."""

    async def ask(self, url: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Return status and body of an answer. Raises FetchFailed if there is no answer."""


class Guard:
    """Lets clients in by a token or by asking the operator's application, and without either to the
    public streams.
    """

    def __init__(
        self, access: AccessSettings, policy: Policy, tokens: Tokens | None, application: Application | None
    ) -> None:
        self.transport: Transport | None = Transport(
            access.cookie if tokens else "",
            access.query_token and tokens is not None,
            application is not None,
        )
        self.asks_others = bool(access.jwks_url or application)
        self._policy = policy
        self._tokens = tokens
        self._application = application

    @classmethod
    def of(cls, access: AccessSettings, policy: Policy, fetcher: Fetcher) -> Guard:
        """Return the guard that the configuration asks for."""
        tokens = application = None
        if access.takes_tokens:
            keys = (
                PublishedKeys(access.jwks_url, fetcher.fetch)
                if access.jwks_url
                else OneKey(access.key, access.algorithms)
            )
            tokens = Tokens(access, keys)
        if access.authorize_url:
            application = Application(access.authorize_url, fetcher.ask)
        return cls(access, policy, tokens, application)

    def waits(self, credentials: Credentials) -> bool:
        if self._tokens is not None and credentials.token:
            return self._tokens.keys.waits_for(credentials.token)
        return self._application is not None and credentials.asks

    def at_once(self, credentials: Credentials) -> Admitted:
        if self._tokens is not None and credentials.token:
            identity = self._tokens.identity(credentials.token)
            return self._admitted(identity, Lease(identity.expires, identity.subject))
        return Admitted(self._policy.of(None))

    async def admit(self, credentials: Credentials, streams: Sequence[str]) -> Admitted:
        if self._tokens is not None and credentials.token:
            if self._tokens.keys.waits_for(credentials.token):
                await self._tokens.keys.fetch()
        elif self._application is not None and credentials.asks:
            lease = await self._application.lease(credentials, streams)
            return self._admitted(lease.identity, lease)
        return self.at_once(credentials)

    async def open(self) -> None:
        """Fetch published keys, so that the first client need not wait. Does not fail if they are missing."""
        if self._tokens is not None:
            await self._tokens.keys.fetch()

    async def run(self) -> None:
        if self._application is None:
            await asyncio.Event().wait()
        else:
            await self._application.renew_leases()

    def _admitted(self, identity: Identity, lease: Lease) -> Admitted:
        return Admitted(self._policy.of(identity.claims), lease)
