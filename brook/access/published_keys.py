"""The keys at `jwks_url` (RFC 7517): cached, fetched anew for an unknown key, kept when fetching fails."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import jwt

from brook.errors import FetchFailed, NotReady, TokenInvalid

log = logging.getLogger(__name__)

# Minimum time between two fetches. A forged token may name any key, and each one would cause a fetch.
MIN_SECONDS: Final = 30.0

# The keys are fetched anew after this time, so that a key that its owner has withdrawn is no longer accepted.
MAX_SECONDS: Final = 3600.0

Fetch = Callable[[str], Awaitable[bytes]]
"""Returns the body at a URL. Raises FetchFailed."""


class PublishedKeys:
    """Keys by their id (`kid`)."""

    def __init__(self, url: str, fetch: Fetch, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._fetch = fetch
        self._clock = clock
        self._keys: Mapping[str, Any] | None = None
        self._asked_at = self._fetched_at = -math.inf
        self._fetching: asyncio.Task[None] | None = None
        # Tokens of one key begin with the same bytes. A client's token is looked up twice.
        self._header, self._named = "", ""

    def waits_for(self, token: str) -> bool:
        """True if the key is unknown or old, and may be fetched (again)."""
        now = self._clock()
        if now - self._asked_at < MIN_SECONDS:
            return self._fetching is not None and not self._has(token)
        return now - self._fetched_at >= MAX_SECONDS or not self._has(token)

    def key(self, token: str) -> Any:
        if self._keys is None:
            raise NotReady("the keys of tokens cannot be fetched at the moment")
        key = self._find(token)
        if key is None:
            raise TokenInvalid("the token is not accepted: no published key has its key id (kid)")
        return key

    async def fetch(self) -> None:
        """Fetch the keys. Calls during a fetch wait for the same answer."""
        if self._fetching is None:
            self._asked_at = self._clock()
            self._fetching = asyncio.create_task(self._renew(), name="jwks")
        # The caller that started the fetch may be cancelled, and the others still need the answer.
        await asyncio.shield(self._fetching)

    async def _renew(self) -> None:
        try:
            self._keys = _parsed(await self._fetch(self._url))
            self._fetched_at = self._clock()
        except FetchFailed as error:
            log.warning("the keys at jwks_url cannot be fetched: %s", error)
        finally:
            self._fetching = None

    def _has(self, token: str) -> bool:
        try:
            return self._find(token) is not None
        except TokenInvalid:
            return True  # no key helps: it is refused at once

    def _find(self, token: str) -> Any:
        """The key of a token; None if it is unknown. A token without a key id is for a set of one key."""
        keys, name = self._keys or {}, self._key_id(token)
        if name not in keys and not name and len(keys) == 1:
            return next(iter(keys.values()))
        return keys.get(name)

    def _key_id(self, token: str) -> str:
        """The key that a token names; empty for none, which is the key of a set without ids."""
        header = token.partition(".")[0]
        if not header or header != self._header:
            self._named = _key_id(header)
            self._header = header
        return self._named


def _key_id(header: str) -> str:
    """The key id (`kid`) in the header of a token; empty if it has none. Raises TokenInvalid."""
    try:
        # The other parts are checked with the signature: PyJWT would decode them here, too.
        named = jwt.get_unverified_header(header + "..").get("kid", "")
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise TokenInvalid("the token is not accepted: it is not a JSON Web Token") from None
    if not isinstance(named, str):
        raise TokenInvalid("the token is not accepted: its key id is not a string")
    return named


def _parsed(body: bytes) -> dict[str, Any]:
    """The usable keys of a key set, by key id. Raises FetchFailed if there are none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise FetchFailed("the answer is not JSON") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise FetchFailed('the answer is not a key set, which is an object with a list "keys"')
    found = {}
    for entry in entries:
        # A secret in a public set is known to everybody. Other uses, such as encryption, sign nothing.
        if not isinstance(entry, dict) or entry.get("kty") == "oct" or entry.get("use", "sig") != "sig":
            continue
        try:
            found[str(entry.get("kid", ""))] = jwt.PyJWK(entry).key
        except (jwt.PyJWTError, ValueError, TypeError):
            continue  # a type of key that PyJWT does not know
    if not found:
        raise FetchFailed("the key set has no key that checks signatures")
    return found
