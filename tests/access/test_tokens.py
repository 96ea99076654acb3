"""Tokens: which are accepted, whatever they say of themselves."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from brook.access.keys import OneKey, prepared
from brook.access.settings import AccessSettings
from brook.access.tokens import MAX_CHARACTERS, Tokens, mint
from brook.errors import SettingsError, TokenExpired, TokenInvalid

SECRET = b"a secret of more than forty-eight bytes, for HS384 too"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public(private: Any) -> bytes:
    return private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def tokens(key: bytes = SECRET, *algorithms: str, **access: Any) -> Tokens:
    algorithms = algorithms or ("HS256",)
    settings = AccessSettings(algorithms=algorithms, key=key, **access)
    return Tokens(settings, OneKey(key, algorithms))


def made(key: Any = SECRET, algorithm: str = "HS256", *, seconds: float = 60, **claims: Any) -> str:
    return jwt.encode({"sub": "u7", "exp": int(time.time() + seconds), **claims}, key, algorithm)


def unsigned(header: Any, claims: Any) -> str:
    parts = [json.dumps(part).encode() for part in (header, claims)]
    return ".".join([*(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts), ""])


@pytest.mark.parametrize(
    ("algorithm", "private"),
    [
        ("RS256", RSA),
        ("PS256", RSA),
        ("ES256", ec.generate_private_key(ec.SECP256R1())),
        ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
    ],
)
def test_token_of_a_key_pair_is_accepted_with_the_public_key(algorithm, private):
    identity = tokens(public(private), algorithm).identity(made(private, algorithm, role="x"))
    assert (identity.subject, identity.claims["role"]) == ("u7", "x")


@pytest.mark.parametrize(("claim", "subject"), [(7, "7"), (0, "0"), (True, ""), (None, ""), ([1], "")])
def test_subject_may_be_a_number(claim, subject):
    """PyJWT alone would refuse it; some issuers write one."""
    assert tokens().identity(made(sub=claim)).subject == subject


def test_token_of_a_secret_is_accepted_and_says_when_it_ends():
    identity = tokens().identity(made(seconds=60))
    assert identity.subject == "u7"
    assert time.time() + 50 < identity.expires <= time.time() + 60


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "not a JSON Web Token"),
        ("x", "not a JSON Web Token"),
        ("a.b.c", "not a JSON Web Token"),
        ("\ud800", "not a JSON Web Token"),
        ("é.é.é", "not a JSON Web Token"),
        (made(b"another secret of more than thirty-two bytes"), "signature"),
        (made(algorithm="HS384"), "algorithm"),
        (unsigned({"alg": "none"}, {"sub": "u7", "exp": 2**40}), "algorithm"),
        (unsigned({"alg": "HS256"}, {"sub": "u7", "exp": 2**40}), "signature"),
        (jwt.encode({"sub": "u7"}, SECRET), "no claim exp"),
        # It is made when the tests are collected, perhaps long before it is used.
        (made(seconds=10**6, nbf=int(time.time() + 10**5)), "not valid yet"),
        (jwt.encode({"exp": "soon"}, SECRET), "not a JSON Web Token"),
        (jwt.encode({"exp": 10**400}, SECRET), "not a JSON Web Token"),
        (jwt.encode({"exp": float("inf")}, SECRET), "not a JSON Web Token"),
        (jwt.encode({"exp": 1_800_000_000_000}, SECRET), "must be in seconds"),
    ],
)
def test_bad_token_is_refused_with_a_reason_and_is_not_quoted(token, reason):
    with pytest.raises(TokenInvalid) as raised:
        tokens().identity(token)
    assert reason in str(raised.value)
    assert not token[10:] or token[10:] not in str(raised.value)


def test_token_that_is_over_is_told_apart():
    with pytest.raises(TokenExpired):
        tokens().identity(made(seconds=-1))


def test_long_token_is_refused_unread():
    with pytest.raises(TokenInvalid, match=f"{MAX_CHARACTERS:,} characters"):
        tokens().identity("x" * (MAX_CHARACTERS + 1))


def test_public_key_is_no_secret():
    """The classic: a token signed with the public key as the secret of HS256."""
    with pytest.raises(TokenInvalid, match="algorithm"):
        tokens(public(RSA), "RS256").identity(unsigned({"alg": "HS256"}, {"exp": 2**40}))


@pytest.mark.parametrize(("access", "claim"), [({"issuer": "a"}, "iss"), ({"audience": ("a",)}, "aud")])
def test_issuer_and_audience_are_checked_once_they_are_configured(access, claim):
    checker = tokens(**access)
    assert checker.identity(made(**{claim: "a"})).subject == "u7"
    for claims in ({claim: "b"}, {}):
        with pytest.raises(TokenInvalid):
            checker.identity(made(**claims))
    assert tokens().identity(made(**{claim: "b"})).subject == "u7"


def test_made_token_is_accepted():
    settings = AccessSettings(algorithms=("HS512",), key=SECRET * 2, issuer="me", audience=("brook", "b"))
    checker = Tokens(settings, OneKey(settings.key, settings.algorithms))
    identity = checker.identity(mint(settings, {"sub": "u7"}, 600))
    assert identity.subject == "u7"
    assert identity.expires > time.time() + 590


def test_token_is_not_made_with_a_public_key():
    with pytest.raises(SettingsError, match="your own login"):
        mint(AccessSettings(algorithms=("RS256",), key=public(RSA)), {}, 60)


@pytest.mark.parametrize(
    ("key", "algorithm", "fault"),
    [
        (b"no key at all, and long enough to be one", "RS256", "is not a key for RS256"),
        (public(RSA), "HS256", "is not a key for HS256"),
        (public(RSA), "ES256", "is not a key for ES256"),
        (
            RSA.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
            "RS256",
            "is a private key",
        ),
    ],
    ids=["garbage", "public key as secret", "wrong kind", "private key"],
)
def test_key_that_does_not_fit_is_found_at_the_start(key, algorithm, fault):
    with pytest.raises(SettingsError, match=fault):
        prepared(key, [algorithm])


def test_no_part_of_a_key_is_in_the_error(tmp_path: Path):
    with pytest.raises(SettingsError) as raised:
        prepared(b"-----BEGIN PUBLIC KEY-----\nc2VjcmV0\n-----END PUBLIC KEY-----", ["RS256"])
    assert "c2VjcmV0" not in str(raised.value)
