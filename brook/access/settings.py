"""The table `[access]` of the configuration: how clients prove their claims."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from brook.access.keys import ASYMMETRIC, SYMMETRIC, prepared
from brook.errors import SettingsError
from brook.toml_file import Table

_KEYS: Final = (
    "algorithms", "key_file", "jwks_url", "issuer", "audience", "cookie", "query_token", "signed_streams",
    "authorize_url",
)  # fmt: skip

# RFC 7518, 3.2: a key must not be shorter than the hash, or it can be guessed.
MIN_KEY_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}

# RFC 6265, 4.1.1, and RFC 2616, 2.2: the name of a cookie is a token.
_COOKIE: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]*")


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """The table's content: the places and checks of tokens, and the application to ask."""

    algorithms: tuple[str, ...] = ()
    key: bytes = b""
    """A secret, or a public key in PEM; empty if keys come from `jwks_url`."""
    jwks_url: str = ""
    issuer: str = ""
    audience: tuple[str, ...] = ()
    cookie: str = ""
    query_token: bool = False
    signed_streams: bool = False
    authorize_url: str = ""

    @property
    def takes_tokens(self) -> bool:
        """True if clients show tokens."""
        return bool(self.algorithms)

    def __str__(self) -> str:
        ways = []
        if self.takes_tokens:
            ways.append(f"tokens ({', '.join(self.algorithms)})")
        if self.signed_streams:
            ways.append("signed streams")
        if self.authorize_url:
            ways.append("authorize_url")
        return f"access by {' and '.join(ways)}"

    @classmethod
    def of(cls, table: Table) -> AccessSettings:
        """Read the table. Raises SettingsError."""
        table.only(_KEYS)
        key_file, jwks_url = table.text("key_file"), table.text("jwks_url")
        authorize_url = table.text("authorize_url")
        if key_file and jwks_url:
            table.refuse("jwks_url", "and key_file exclude each other: keys come from one of them")
        if not (key_file or jwks_url or authorize_url):
            table.refuse("", "needs key_file, jwks_url or authorize_url: no client could identify itself")
        for name, url in (("jwks_url", jwks_url), ("authorize_url", authorize_url)):
            if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
                table.refuse(name, f"takes an address that begins with https:// or http://, got {url!r}")
        algorithms = _algorithms(table, secret=bool(key_file), tokens=bool(key_file or jwks_url))
        return cls(
            algorithms=algorithms,
            key=_key(table, key_file, algorithms) if key_file else b"",
            jwks_url=jwks_url,
            issuer=table.text("issuer"),
            audience=tuple(table.texts("audience") or ()),
            cookie=_cookie(table),
            query_token=table.flag("query_token"),
            signed_streams=table.flag("signed_streams"),
            authorize_url=authorize_url,
        )


def _cookie(table: Table) -> str:
    name = table.text("cookie")
    if not _COOKIE.fullmatch(name):
        table.refuse(
            "cookie",
            f'takes the name of a cookie, which has no spaces and none of ()<>@,;:\\"/[]?={{}}, got {name!r}',
        )
    return name


def _algorithms(table: Table, *, secret: bool, tokens: bool) -> tuple[str, ...]:
    """The algorithms, all of one kind: otherwise a public key could be used as the secret of an HMAC."""
    algorithms = tuple(table.texts("algorithms") or ())
    if not tokens:
        if algorithms:
            table.refuse("algorithms", "needs key_file or jwks_url")
        return ()
    if not algorithms:
        table.refuse("algorithms", 'is missing; name how your tokens are signed, such as ["HS256"]')
    for name in algorithms:
        if name not in (*SYMMETRIC, *ASYMMETRIC):
            table.refuse("algorithms", f"has {name!r}; there are: {', '.join((*SYMMETRIC, *ASYMMETRIC))}")
    symmetric = [name in SYMMETRIC for name in algorithms]
    if any(symmetric) != all(symmetric):
        table.refuse("algorithms", "mixes secrets (HS...) with key pairs; use one kind")
    if any(symmetric) and not secret:
        table.refuse("algorithms", f"has {algorithms[0]}, which needs key_file: a secret is not published")
    return algorithms


def _key(table: Table, name: str, algorithms: tuple[str, ...]) -> bytes:
    path = Path(table.file.path).parent / name
    needed = max(MIN_KEY_BYTES.get(name, 0) for name in algorithms)
    remedy = f"make one with: openssl rand -hex {needed} > {shlex.quote(str(path))}"
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        makes = f"; {remedy}" if needed and isinstance(error, FileNotFoundError) else ""
        table.refuse("key_file", f"cannot be read: {error.strerror}: {path}{makes}")
    if len(key) < needed:
        table.refuse("key_file", f"has {len(key)} bytes, fewer than {needed}; {remedy}")
    try:
        prepared(key, algorithms)
    except SettingsError as error:
        table.refuse("key_file", str(error))
    return key
