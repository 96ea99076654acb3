"""The options of the command line that come from settings and from the configuration file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from brook.errors import SettingsError
from brook.settings import Settings, environment_name, flag

if TYPE_CHECKING:  # it imports bson, and the demo must run without it
    from brook.configuration import Configuration

MODES = ("demo", "mongo", "sandbox")


def setting_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option and an environment variable for each setting to a command."""
    for field in reversed(dataclasses.fields(Settings)):
        many = isinstance(field.default, tuple)
        command = click.option(
            flag(field.name),
            field.name,
            envvar=environment_name(field.name),
            multiple=many,
            type=str if many else type(field.default),
            default=field.default,
            show_default=field.default != "",
            show_envvar=True,
            help=field.metadata["help"],
        )(command)
    return command


def _read_config(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    """Read the configuration first: its settings are the defaults of the other options."""
    if path is None:
        return
    # A late import: the demo must run without bson.
    from brook.configuration import Configuration

    try:
        context.obj = Configuration.read(path)
    except SettingsError as error:
        raise click.UsageError(str(error), context) from None
    context.default_map = dict(context.obj.settings)


config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar=environment_name("config"),
    show_envvar=True,
    is_eager=True,
    expose_value=False,
    callback=_read_config,
    help="Read settings, access rules and streams from this file.",
)


def mode(context: click.Context, chosen: dict[str, bool]) -> str:
    """Return the chosen mode. The command line overrides the environment, which overrides the file."""
    asked = [mode for mode in MODES if chosen[mode]]
    modes = asked
    for source in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT):
        if typed := [mode for mode in asked if context.get_parameter_source(mode) is source]:
            modes = typed
            break
    if len(modes) != 1:
        raise click.UsageError("choose one of --demo, --mongo URI and --sandbox", context)
    return modes[0]


def followed(
    context: click.Context, mode: str, configuration: Configuration, values: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings with which the server follows the streams of the configuration.

    Raises SettingsError if it cannot have streams.
    """
    if mode == "demo":
        if configuration.access is not None or configuration.streams:
            raise SettingsError("[access] and [streams] are for documents; --demo has none")
        return {}
    given = {
        name: values[name]
        for name in ("database", "collection", "namespace")
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    if "database" not in given:
        given["database"] = values["database"]
    return configuration.followed(given)
