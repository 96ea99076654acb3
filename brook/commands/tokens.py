"""The commands `token` and `check-token`, which make and check tokens, to try out the access rules."""

from __future__ import annotations

import datetime
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from brook.errors import BrookError, MissingClaim

if TYPE_CHECKING:  # the demo must run without bson
    from brook.access.settings import AccessSettings
    from brook.access.streams import GrantedStreams
    from brook.configuration import Configuration

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TIME = re.compile(r"([1-9][0-9]{0,8})([smhd]?)")

_config = click.option(
    "--config",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="BROOK_CONFIG",
    show_envvar=True,
    help="The server's configuration file.",
)


@click.command()
@_config
@click.option(
    "--stream", "streams", multiple=True, help="Fail unless the token opens this stream; repeatable."
)
@click.option("--sub", metavar="SUBJECT", help="The claim sub: who the client is.")
@click.option("--claim", "claims", metavar="NAME=VALUE", multiple=True, help="A claim, as JSON or text.")
@click.option("--ttl", default="10m", show_default=True, help="Time until it expires, such as 30s, 10m, 2h.")
@click.pass_context
def token(
    context: click.Context,
    path: Path | None,
    streams: tuple[str, ...],
    sub: str | None,
    claims: tuple[str, ...],
    ttl: str,
) -> None:
    """Print a token, signed with the secret of key_file."""
    from brook.access import tokens

    configuration, access = _configuration(context, path)
    content = dict(map(_claim, claims)) | ({} if sub is None else {"sub": sub})
    granted = _granted(configuration, content)
    opened = {info.name or "default" for info in granted.catalog()}
    try:
        for stream in streams:
            if stream not in opened:
                granted.grant(stream)
        click.echo(tokens.mint(access, content, _seconds(ttl)))
    except MissingClaim as error:
        _fail(f"{error}; add {_option(error.reference)}")
    except BrookError as error:
        _fail(str(error))


@click.command("check-token")
@_config
@click.argument("text", metavar="[TOKEN]", default="-")
@click.pass_context
def check_token(context: click.Context, path: Path | None, text: str) -> None:
    """Print the claims of a token, and the streams that it opens. Without TOKEN, or for -, it is read
    from standard input.
    """
    from brook.access.keys import OneKey
    from brook.access.tokens import Tokens

    configuration, access = _configuration(context, path)
    text = (sys.stdin.read() if text == "-" else text).strip()
    try:
        if not access.key:
            _fail("check-token needs key_file: keys at jwks_url are for the server to fetch")
        identity = Tokens(access, OneKey(access.key, access.algorithms)).identity(text)
        granted = _granted(configuration, identity.claims)
    except BrookError as error:
        _fail(str(error))
    expires = datetime.datetime.fromtimestamp(identity.expires, datetime.UTC)
    click.echo(f"valid until {expires.isoformat()}")
    click.echo(f"claims: {json.dumps(identity.claims)}")
    for info in granted.catalog():
        modes = ", ".join(info.modes)
        click.echo(f"opens /stream{info.name and '/' + info.name}: {info.collection} ({modes})")
    if not granted.catalog():
        click.echo("opens no stream")


def _configuration(context: click.Context, path: Path | None) -> tuple[Configuration, AccessSettings]:
    from brook.configuration import Configuration

    configuration = context.obj
    if path is not None:
        try:
            configuration = Configuration.read(path)
        except BrookError as error:
            raise click.UsageError(str(error), context) from None
    if configuration is None:
        raise click.UsageError("name the server's configuration file: --config FILE", context)
    if configuration.access is None or not configuration.access.takes_tokens:
        raise click.UsageError("the configuration has no [access] with key_file or jwks_url", context)
    return configuration, configuration.access


def _granted(configuration: Configuration, claims: Mapping[str, Any]) -> GrantedStreams:
    from brook.access.streams import Policy
    from brook.namespaces import Namespaces
    from brook.settings import Settings

    settings = Settings(**configuration.followed(configuration.named))
    assert configuration.access is not None
    signed = configuration.access.signed_streams
    return Policy(configuration.streams, Namespaces.of(settings), signed=signed).of(claims)


def _option(reference: str) -> str:
    """The option that gives the claim of a reference such as `$claims.sub`."""
    first, *inner = reference.removeprefix("$claims.").split(".")
    if first == "sub" and not inner:
        return "--sub SUBJECT"
    return f"--claim {first}={'JSON' if inner else 'VALUE'}"


def _claim(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"takes NAME=VALUE, got {text!r}", param_hint="--claim")
    if name == "exp":
        raise click.BadParameter("exp comes from --ttl", param_hint="--claim")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _seconds(text: str) -> int:
    found = _TIME.fullmatch(text)
    if found is None:
        raise click.BadParameter(f"takes a time such as 30s, 10m, 2h or 7d, got {text!r}", param_hint="--ttl")
    return int(found[1]) * _UNITS[found[2] or "s"]


def _fail(message: str) -> NoReturn:
    click.echo(f"babbling-brook: {message}", err=True)
    raise SystemExit(1)
