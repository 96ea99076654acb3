"""The keys with which tokens are signed, and the algorithms that they are for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import jwt

from brook.errors import SettingsError

SYMMETRIC: Final = ("HS256", "HS384", "HS512")
ASYMMETRIC: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip


class Keys(Protocol):
    """The keys with which tokens are signed."""

    def waits_for(self, token: str) -> bool:
        """True if the key of a token has to be fetched first."""

    def key(self, token: str) -> Any:
        """The key of a token. Raises TokenInvalid if there is none, NotReady if it cannot be known now."""

    async def fetch(self) -> None:
        """Fetch the keys anew, unless that was done just now."""


class OneKey:
    """The key of `key_file`."""

    def __init__(self, key: bytes, algorithms: Sequence[str]) -> None:
        self._key = prepared(key, algorithms)

    def waits_for(self, token: str) -> bool:
        return False

    def key(self, token: str) -> Any:
        return self._key

    async def fetch(self) -> None:
        """Do nothing: the key is there."""


def prepared(key: bytes, algorithms: Sequence[str]) -> Any:
    """Return a key in the form that is used for each of the algorithms. Raises SettingsError if it is none.

    PyJWT would parse a PEM file anew for each token.
    """
    made: Any = None
    for name in algorithms:
        try:
            made = jwt.get_algorithm_by_name(name).prepare_key(key)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise SettingsError(f"is no key for {name}: {error}") from None
    if hasattr(made, "private_bytes"):
        raise SettingsError("is a private key; this server needs only the public one")
    return made
