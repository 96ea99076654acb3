"""Every setting: one table, that the command line, the environment and the docs agree with."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from importlib import metadata

import click
import pytest
from click.testing import CliRunner, Result

import server
from brook.commands import options as command_options
from brook.errors import SettingsError
from brook.namespaces import named_database
from brook.settings import Settings, environment_name, flag
from tests.support.processes import ROOT

FIELDS = dataclasses.fields(Settings)
NUMBERS = [field for field in FIELDS if type(field.default) in (int, float)]
MODES = {"demo", "mongo", "sandbox"}

# Options of `--check` and `--check-config`, which start no server.
CHECK = {"check", "output", "check_config"}

# By setting: what cannot be meant, whoever says it.
NONSENSE = {
    "database": ["", "a b", "a.b", "a/b", "a\\b", 'a"b', "a$b", "a\0b", "admin", "local"],
    "collection": ["", "a$b", "a\0b"],
    "namespace": [
        "",
        "orders",
        ".orders",
        "shop.",
        "a b.orders",
        "shop.a$b",
        "shop.a\0",
        "local.oplog.rs",
        "admin.*",
    ],
    "cors_origin": [
        "https://a.example, https://b.example",
        "https://a.example\r\nX: y",
        "a b",
        "a\0",
        "foo",
        "https://a.example/",
        "https://a.example/page",
        "https://",
        "https://A.example",
        "https://a.example:443",
        "http://a.example:80",
        "https://u@a.example",
    ],
    "allowed_host": [
        "",
        "https://a.example",
        "a.example:443",
        "a.example/",
        ".a.example",
        "*.a.example",
        "a b",
        "[::1]",
    ],
    "trusted_proxy": ["", "proxy", "10.0.0.1/8", "10.0.0.0/33", "0.0.0.0/0", "::/0", "10.0.0.7:80"],
    "compression": ["", "brotli", "GZIP", "on"],
    "log_format": ["", "xml", "JSON"],
}

REPEATABLE = {field.name for field in FIELDS if isinstance(field.default, tuple)}

each_field = pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
each_number = pytest.mark.parametrize("field", NUMBERS, ids=lambda field: field.name)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("BROOK_"):
            monkeypatch.delenv(name)


def parse(*arguments: str) -> dict:
    """What the command line and the environment come to; nothing is started."""
    return server.main.make_context("server.py", list(arguments)).params


def settings_of(*arguments: str) -> Settings:
    return Settings(**{name: value for name, value in parse(*arguments).items() if name not in MODES | CHECK})


def run(*arguments: str) -> Result:
    """Run the command in this process. Only for what it refuses."""
    result = CliRunner().invoke(server.main, list(arguments), prog_name="server.py")
    assert result.exit_code != 0
    return result


def text_of(default: object) -> str:
    return " ".join(default) if isinstance(default, tuple) else str(default)


def options() -> dict[str, click.Option]:
    return {option.name: option for option in server.main.params}


# -- the table -------------------------------------------------------------------------------------


@each_field
def test_setting_has_an_option_an_environment_name_a_help_and_its_default(field):
    option = options()[field.name]
    assert option.opts == [flag(field.name)] == ["--" + field.name.replace("_", "-")]
    assert option.envvar == environment_name(field.name) == "BROOK_" + field.name.upper()
    assert option.default == field.default
    assert option.help == field.metadata["help"]
    assert settings_of() == Settings()


def test_there_are_no_options_but_the_settings_and_the_modes():
    assert set(options()) == {field.name for field in FIELDS} | MODES | CHECK | {"version", "config"}
    assert {options()[mode].envvar for mode in MODES} == {"BROOK_DEMO", "BROOK_MONGO", "BROOK_SANDBOX"}


@each_field
def test_help_says_option_environment_and_default(field):
    result = CliRunner().invoke(server.main, ["--help"], terminal_width=1000)
    assert result.exit_code == 0
    text = " ".join(result.output.split())
    start = text.index(f" {flag(field.name)} ")
    shown = text[start : text.index("]", start) + 1]
    assert re.search(r"\[env var: (\w+)", shown)[1] == environment_name(field.name)
    default = re.search(r"; default: (.+)\]$", shown)
    assert (default[1] if default else "") == text_of(field.default)
    assert field.metadata["help"].split(";")[0] in shown


COUNTS = (
    "port",
    "max_connections_per_subject",
    "max_subscriptions_per_subject",
    "metrics_port",
    "replay_cursors",
    "processes",
    "snapshot_cursors",
    "snapshot_max_documents",
    "max_connections",
    "max_connections_per_address",
)


@each_field
def test_unit_of_a_number_is_in_its_name(field):
    if type(field.default) is float:
        assert field.name.endswith("_seconds")
    elif type(field.default) is int:
        assert field.name.endswith(("_bytes", "_ms")) or field.name in COUNTS


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1


def test_docs_have_the_same_table():
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(--[^`]+)` \| `([^`]+)` \| (.*?) ?\| (.+?) \|$", page, re.M)
    documented = [row for row in rows if row[0].split()[0].lstrip("-") not in MODES]
    expected = [
        (
            flag(field.name),
            environment_name(field.name),
            f"`{text_of(field.default)}`" if text_of(field.default) else "",
            field.metadata["help"],
        )
        for field in FIELDS
    ]
    assert documented == expected
    modes = [(row[0], row[1]) for row in rows if row not in documented]
    assert modes == [("--demo", "BROOK_DEMO"), ("--mongo URI", "BROOK_MONGO"), ("--sandbox", "BROOK_SANDBOX")]


# -- values ----------------------------------------------------------------------------------------


def refused(result: Result, word: str) -> None:
    """Exit code 2, and one line that says which option is wrong."""
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    errors = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert result.output.splitlines()[-1] == errors[0]
    assert word in errors[0]


@each_number
def test_number_out_of_its_bounds_is_refused_and_its_bounds_are_taken(field):
    lower, upper = field.metadata["min"], field.metadata["max"]
    assert lower is not None, "a number without bounds"
    for bound in (lower, upper):
        if bound is not None:
            assert getattr(Settings(**{field.name: bound}), field.name) == bound
    beyond = [lower - 1, *([upper + 1] if upper is not None else [])]
    for value in beyond:
        with pytest.raises(SettingsError):
            Settings(**{field.name: value})
        refused(run("--demo", f"{flag(field.name)}={value:g}"), flag(field.name))


@each_number
@pytest.mark.parametrize("junk", ["nan", "inf", "-inf", "junk", "", "1e999", "1,5", "0x"])
def test_junk_is_no_number(field, junk, monkeypatch):
    refused(run("--demo", f"{flag(field.name)}={junk}"), flag(field.name))
    if junk:
        monkeypatch.setenv(environment_name(field.name), junk)
        refused(run("--demo"), flag(field.name))


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in NONSENSE for value in NONSENSE[name]])
def test_nonsense_is_refused(name, value):
    with pytest.raises(SettingsError, match=flag(name)):
        Settings(**{name: (value,) if name in REPEATABLE else value})
    refused(run("--demo", f"{flag(name)}={value}"), flag(name))


def test_collections_cannot_be_none_at_all():
    with pytest.raises(SettingsError, match="--collection"):
        Settings(collection=())


@pytest.mark.parametrize(
    "arguments", [["--colection", "x"], ["--demo", "--port"], ["--demo", "file"], ["-p"]]
)
def test_unknown_and_incomplete_options_are_refused(arguments):
    refused(run(*arguments), "")


def test_command_line_goes_before_the_environment_and_that_before_the_default(monkeypatch):
    assert settings_of().port == 3333
    monkeypatch.setenv("BROOK_PORT", "4000")
    assert settings_of().port == 4000
    assert settings_of("--port", "5000").port == 5000
    monkeypatch.setenv("BROOK_PORT", "")
    assert settings_of().port == 3333


@each_field
def test_every_setting_can_come_from_the_environment(field, monkeypatch):
    match field.default:
        case int():
            value = str(field.default + 1)
        case float():
            value = str(field.default / 2 or 1.0)
        case tuple():
            chosen = {
                "cors_origin": "https://a.example https://b.example:8443",
                "trusted_proxy": "10.0.0.7 2001:db8::/32",
            }
            value = chosen.get(field.name, "shop.herons shop.otters")
        case str():
            chosen = {"compression": "off", "log_format": "json"}
            value = chosen.get(field.name, "other")
    monkeypatch.setenv(environment_name(field.name), value)
    if field.name.startswith("tls_"):
        # Each needs the other one.
        for name in {"tls_cert", "tls_key"} - {field.name}:
            monkeypatch.setenv(environment_name(name), value)
    found = getattr(settings_of(), field.name)
    assert found != field.default
    assert (" ".join(found) if isinstance(found, tuple) else str(found)) == value
    assert type(found) is type(field.default)


def test_collections_can_be_several():
    assert settings_of("--collection", "a", "--collection=b c").collection == ("a", "b c")
    assert settings_of("--collection", "*").collection == ("*",)


def test_origins_can_be_several_one_of_any_or_none():
    assert settings_of().cors_origin == ("*",)
    assert settings_of("--cors-origin", "").cors_origin == ("",)
    two = ("https://a.example", "http://localhost:8080")
    assert settings_of(*(word for origin in two for word in ("--cors-origin", origin))).cors_origin == two


@pytest.mark.parametrize("alone", ["*", ""])
def test_any_origin_and_none_stand_alone(alone):
    with pytest.raises(SettingsError, match="stands alone"):
        Settings(cors_origin=("https://a.example", alone))


# -- modes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--mongo", "mongodb://a/?b=c"], ["--mongo=mongodb://a/?b=c"]])
def test_uri_may_stand_after_a_space_or_an_equals_sign(arguments):
    assert parse(*arguments)["mongo"] == "mongodb://a/?b=c"


@pytest.mark.parametrize(
    "arguments", [["--demo", "--sandbox"], ["--demo", "--mongo", "mongodb://localhost"], []], ids=" ".join
)
def test_modes_exclude_each_other_and_one_must_be_chosen(arguments):
    refused(run(*arguments), "choose one of --demo, --mongo URI and --sandbox")


@pytest.mark.parametrize(
    ("uri", "database"),
    [
        ("mongodb://localhost/shop", "shop"), ("mongodb://u:p@a:1,b:2/shop?replicaSet=rs0", "shop"),
        ("mongodb+srv://a.example/my%2Dshop", "my-shop"), ("mongodb://localhost", ""),
        ("mongodb://localhost/", ""), ("mongodb://localhost/?replicaSet=a/b", ""),
        ("mongodb://u:p@localhost/admin?x=y", ""), ("nonsense", ""),
        ("mongodb://a?tlsCAFile=/etc/ca.pem", ""),
        ("mongodb://localhost/shop.orders", "shop"), ("mongodb://u:x/secret@localhost/", ""),
        ("mongodb://u:x/secret", "secret"),
    ],
)  # fmt: skip
def test_uri_may_name_the_database(uri, database):
    assert named_database(uri) == database


def test_mode_of_the_command_line_goes_before_that_of_the_environment(monkeypatch):
    monkeypatch.setenv("BROOK_DEMO", "1")
    context = server.main.make_context("server.py", ["--mongo", "mongodb://a"])
    chosen = {"demo": context.params["demo"], "mongo": True, "sandbox": context.params["sandbox"]}
    assert command_options.mode(context, chosen) == "mongo"
    monkeypatch.setenv("BROOK_SANDBOX", "1")
    refused(run(), "choose one of")


def test_server_alone_says_which_to_choose_and_exits_2():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BROOK_")}
    done = subprocess.run(
        [sys.executable, ROOT / "server.py"], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == "Error: choose one of --demo, --mongo URI and --sandbox"
    assert "Traceback" not in done.stderr


def test_version_is_said_without_a_mode():
    result = CliRunner().invoke(server.main, ["--version"])
    assert (result.exit_code, result.output) == (0, f"babbling-brook {metadata.version('babbling-brook')}\n")
