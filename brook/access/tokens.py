"""JSON Web Tokens (RFC 7519): their check, and their making for tests. PyJWT does the cryptography."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import jwt

from brook.access.claims import Identity
from brook.access.keys import SYMMETRIC, Keys
from brook.access.settings import AccessSettings
from brook.errors import SettingsError, TokenExpired, TokenInvalid

# A valid token is not longer: it must fit into a header.
MAX_CHARACTERS: Final = 8192

# The end of the year 9999. A time in milliseconds, a common mistake, would be valid for 50,000 years.
MAX_TIME: Final = 253_402_300_799

_REMEDIES: Final[Mapping[type[jwt.PyJWTError], str]] = {
    jwt.ImmatureSignatureError: "it is not valid yet; compare the clocks of its issuer and of this server",
    jwt.InvalidAudienceError: "it is for another audience",
    jwt.InvalidIssuerError: "it is from another issuer",
    jwt.InvalidAlgorithmError: "its algorithm is not among the configured ones",
    jwt.InvalidSignatureError: "its signature does not fit the key",
    jwt.MissingRequiredClaimError: "it has no claim exp, or lacks iss or aud, which are configured",
}


class Tokens:
    """Checks tokens. A token is accepted only with a configured algorithm, whatever its header says."""

    def __init__(self, access: AccessSettings, keys: Keys) -> None:
        self._algorithms = list(access.algorithms)
        self._issuer = access.issuer or None
        self._audience = list(access.audience) or None
        self._options: Any = {"require": ["exp"], "verify_aud": bool(access.audience), "verify_sub": False}
        self._jwt = jwt.PyJWT()
        self.keys = keys

    def identity(self, token: str) -> Identity:
        """The claims of a token, and the time they expire. Raises TokenInvalid, TokenExpired or NotReady."""
        if len(token) > MAX_CHARACTERS:
            raise TokenInvalid(f"the token has more than {MAX_CHARACTERS:,} characters")
        key = self.keys.key(token)
        try:
            claims = self._jwt.decode(
                token, key, self._algorithms, self._options, audience=self._audience, issuer=self._issuer
            )
            expires = float(claims["exp"])
        except jwt.ExpiredSignatureError:
            raise TokenExpired("the token has expired: get a new one") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            # PyJWT's own message may quote the token.
            raise TokenInvalid(f"the token is not accepted: {_reason(error)}") from None
        if expires > MAX_TIME:
            raise TokenInvalid(
                "the token is not accepted: its exp is after the year 9999; it must be in seconds since 1970"
            )
        return Identity(claims, expires)


def mint(access: AccessSettings, claims: Mapping[str, Any], seconds: float) -> str:
    """Return a token with these claims, signed with the secret of `key_file`. Raises SettingsError."""
    if not access.key or access.algorithms[0] not in SYMMETRIC:
        raise SettingsError(
            "tokens are made with the secret of key_file, for HS256, HS384 or HS512; with a public key, your "
            "own login makes them"
        )
    now = int(time.time())
    standard: dict[str, Any] = {"iat": now, "exp": now + round(seconds)}
    if access.issuer:
        standard["iss"] = access.issuer
    if access.audience:
        standard["aud"] = access.audience[0]
    return jwt.encode({**standard, **claims}, access.key, access.algorithms[0])


def _reason(error: Exception) -> str:
    for kind in type(error).__mro__:
        if issubclass(kind, jwt.PyJWTError) and kind in _REMEDIES:
            return _REMEDIES[kind]
    return "it is not a JSON Web Token"
