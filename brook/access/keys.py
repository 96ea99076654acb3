"""The keys that check the signatures of tokens, and their algorithms."""

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
    """The keys that check the signatures of tokens."""

    def waits_for(self, token: str) -> bool:
        """True if the key of a token has to be fetched first."""

    def key(self, token: str) -> Any:
        """The key of a token. Raises TokenInvalid if there is none, NotReady if no keys were fetched yet."""

    async def fetch(self) -> None:
        """Fetch the keys anew. If that fails, the known keys stay in use."""


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
    """Return a key in the form that PyJWT uses. Raises SettingsError if an algorithm does not accept it.

    Otherwise PyJWT would parse the PEM text for each token.
    """
    made: Any = None
    for name in algorithms:
        try:
            made = jwt.get_algorithm_by_name(name).prepare_key(key)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise SettingsError(f"is not a key for {name}: {error}") from None
    if hasattr(made, "private_bytes"):
        raise SettingsError("is a private key; this server needs only the public one")
    return made
