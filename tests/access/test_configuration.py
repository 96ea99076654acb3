"""The configuration file: its settings, and errors that name the file, the line and the key."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import server
from brook.configuration import Configuration
from brook.errors import SettingsError
from brook.settings import Settings
from tests.support.guarded import SECRET

STREAM = '[streams.mine]\nnamespace = "shop.orders"\n'
ACCESS = '[access]\nalgorithms = ["HS256"]\nkey_file = "jwt.key"\n'


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("BROOK_"):
            monkeypatch.delenv(name)


@pytest.fixture
def written(tmp_path: Path) -> Any:
    (tmp_path / "jwt.key").write_text(SECRET)
    (tmp_path / "short.key").write_text("x" * 31)
    path = tmp_path / "brook.toml"

    def write(text: str) -> Path:
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("\nport = 'x'", 2, 'port takes a whole number, got "x"'),
        ("port = true", 1, "port takes a whole number, got true"),
        ("port = 3.5", 1, "port takes a whole number, got 3.5"),
        ("heartbeat_seconds = [true, {a = 1}, {}]", 1, "takes a number, got [true, { a = 1 }, {}]"),
        ("prot = 1", 1, "prot is unknown; did you mean port?"),
        ("cors-origin = 'x'", 1, "did you mean cors_origin?"),
        ("xyzzy = 1", 1, "--help lists the settings"),
        (ACCESS + "\n\n[stream.my-orders]\nnamespace = 'a.b'", 6, "stream is unknown; did you mean streams?"),
        (STREAM + "\n" + STREAM, 4, "streams.mine is there twice: the first [streams.mine] is on line 1"),
        ("port = 1\n\nhost == 'a'", 3, "is not TOML: Invalid value, at column 7"),
        ("port = 1\nhost = ", 2, "is not TOML: Invalid value"),
        (STREAM + "fields = ['a', '-b']", 3, "streams.mine.fields either includes"),
        (STREAM + "fields = ['a', 'a.b']", 3, "streams.mine.fields 'a' and a field inside"),
        ("host = 1", 1, "host takes a string"),
        ("port = 99999", 1, "port takes a number from 0 to 65535"),
        ("# a\n\nheartbeat_seconds = 0", 3, "heartbeat_seconds takes a number from 0.1"),
        ("cors_origin = [1]", 1, "cors_origin takes a list of strings"),
        ('cors_origin = ["https://x/"]', 1, "cors_origin takes * or an origin"),
        ("mongo = 1", 1, "mongo takes a string"),
        (ACCESS, 1, "no client could read anything"),
        ("access = 1", 1, "access takes a table"),
        ("[access]\n" + STREAM, 1, "needs key_file, jwks_url or authorize_url"),
        (ACCESS + "cokie = 'x'\n" + STREAM, 4, "access.cokie is unknown"),
        (ACCESS + "query_token = 1\n" + STREAM, 4, "access.query_token takes true or false"),
        (ACCESS + "jwks_url = 'https://x'\n" + STREAM, 4, "exclude each other"),
        ("[access]\nkey_file = 'jwt.key'\n" + STREAM, 1, "access.algorithms is missing"),
        ("[access]\nalgorithms=['none']\nkey_file = 'jwt.key'\n" + STREAM, 2, "has 'none'; there are: HS256"),
        ("[access]\nalgorithms=['HS256', 'RS256']\nkey_file = 'jwt.key'\n" + STREAM, 2, "mixes secrets"),
        ("[access]\nalgorithms=['HS256']\njwks_url = 'https://x'\n" + STREAM, 2, "a secret is not published"),
        ("[access]\nalgorithms=['HS256']\nkey_file = 'no.key'\n" + STREAM, 3, "No such file or directory"),
        ("[access]\nalgorithms=['HS384']\nkey_file = 'no.key'\n" + STREAM, 3, "openssl rand -hex 48 > /"),
        (
            "[access]\nalgorithms=['HS256']\nkey_file = 'short.key'\n" + STREAM,
            3,
            "has 31 bytes, fewer than 32",
        ),
        ("[access]\nalgorithms=['HS512']\nkey_file = 'jwt.key'\n" + STREAM, 3, "fewer than 64"),
        ("[access]\nalgorithms=['RS256']\nkey_file = 'jwt.key'\n" + STREAM, 3, "is not a key for RS256"),
        ("[access]\nauthorize_url = 'ftp://x'\n" + STREAM, 2, "begins with https:// or http://"),
        (
            "[access]\nauthorize_url = 'http://x'\nalgorithms=['RS256']\n" + STREAM,
            3,
            "needs key_file or jwks_url",
        ),
        ("[streams.mine]", 1, "takes one collection, as db.coll, got ''"),
        ('[streams.mine]\nnamespace = "shop"', 2, "takes one collection"),
        ('[streams.mine]\nnamespace = "shop.*"', 2, "takes one collection"),
        ('[streams."a b"]\nnamespace = "a.b"', 1, "is not a name"),
        (STREAM + 'feilds = ["a"]', 3, "streams.mine.feilds is unknown"),
        (STREAM + 'modes = ["lvie"]', 3, "has 'lvie'; there are: changes, live, count"),
        (STREAM + "filter = { a = { '$foo' = 1 } }", 3, "streams.mine.filter is not a valid filter"),
        (STREAM + "filter = { a = 2000-01-01 }", 3, "has a date of TOML"),
        (STREAM + "filter = { a = '$claims.sub' }", 3, "needs an [access] table"),
        (STREAM + "require = { a = 1 }", 3, "needs an [access] table"),
        (ACCESS + STREAM + "filter = { a = 'x $claims.sub' }", 6, "stands alone"),
        (ACCESS + STREAM + "filter = { '$where' = '$claims.sub' }", 6, "is not a valid filter"),
        (ACCESS + STREAM + "filter = { a = '$claim.sub' }", 6, "streams.mine.filter has '$claim.sub'"),
        (ACCESS + STREAM + "filter = { a = '$claim.sub' }", 6, "did you mean $claims.sub?"),
        (ACCESS + STREAM + "filter = { a = '$Claims.org.id' }", 6, "did you mean $claims.org.id?"),
        (ACCESS + STREAM + "filter = { a = { '$in' = ['x', '$sub'] } }", 6, "did you mean $claims.sub?"),
        (ACCESS + STREAM + "filter = { a = { '$ne' = '$org.id' } }", 6, "did you mean $claims.org.id?"),
        (ACCESS + STREAM + "filter = { a = '${claims.sub}' }", 6, "did you mean $claims.sub?"),
        (ACCESS + STREAM + "require = { role = [] }", 6, "streams.mine.require.role takes a value that"),
        (ACCESS + STREAM + "require = { role = '' }", 6, "not an empty string or list"),
        (ACCESS + STREAM + "require = { role = ['x', ''] }", 6, "not an empty string or list"),
        (ACCESS + "cookie = 'a b'\n" + STREAM, 4, "access.cookie takes the name of a cookie"),
        ('[streams.mine]\nnamespace = "local.oplog"', 2, "streams.mine.namespace is in local"),
        ('[streams.mine]\nnamespace = "config.x"', 2, "a database of MongoDB itself"),
        ('[streams.mine]\nnamespace = "admin.x"', 2, "a database of MongoDB itself"),
        (ACCESS + STREAM + "require = { a = {} }", 6, "streams.mine.require.a takes a string"),
        (ACCESS + STREAM + "public = true\nrequire = { a = 1 }", 6, "excludes require and $claims"),
        (ACCESS + STREAM + 'fields = ["$a"]', 6, "streams.mine.fields"),
        (ACCESS + STREAM + 'client_filter = ["-a"]', 6, "it cannot exclude any"),
        (
            ACCESS + STREAM + "modes = ['live']\n[[streams.mine.allow]]\n",
            6,
            "belongs into an [[allow]] table",
        ),
        (
            ACCESS + STREAM + "[[streams.mine.allow]]\n[[streams.mine.allow]]\nmods = 1",
            8,
            "allow[1].mods is unknown",
        ),
    ],
)
def test_fault_is_named_with_its_file_line_and_key(written, text, line, said):
    path = written(text)
    with pytest.raises(SettingsError) as raised:
        Configuration.read(path)
    assert str(raised.value).startswith(f"{path}:{line}: "), str(raised.value)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a = ", "is not TOML"),
        (b"\xff", "is not UTF-8"),
        (b"a = 1\na = 2", "is not TOML"),
        (None, "cannot be read"),
    ],
)
def test_file_that_cannot_be_read_says_why(tmp_path, content, said):
    path = tmp_path / "brook.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=said):
        Configuration.read(path)


def test_byte_order_mark_is_not_part_of_the_first_key(tmp_path):
    path = tmp_path / "brook.toml"
    path.write_bytes(b"\xef\xbb\xbfport = 1111")
    assert Configuration.read(path).settings == {"port": 1111}


def parsed(path: Path, *arguments: str) -> dict[str, Any]:
    context = server.main.make_context("server.py", ["--config", str(path), *arguments])
    return context.params


def test_command_line_goes_before_environment_and_that_before_the_file(written, monkeypatch):
    path = written("port = 1111\nretry_ms = 2222\ncors_origin = ['https://a']\nmongo = 'mongodb://a'")
    assert parsed(path)["port"] == 1111
    assert parsed(path)["cors_origin"] == ("https://a",)
    assert parsed(path)["mongo"] == "mongodb://a"
    monkeypatch.setenv("BROOK_PORT", "3333")
    monkeypatch.setenv("BROOK_RETRY_MS", "4444")
    values = parsed(path, "--port", "5555")
    assert (values["port"], values["retry_ms"]) == (5555, 4444)


def test_settings_that_go_together_are_checked_together(written):
    path = written('tls_cert = "a.pem"\ntls_key = "/etc/b.pem"')
    settings = Configuration.read(path).settings
    assert settings == {"tls_cert": str(path.parent / "a.pem"), "tls_key": "/etc/b.pem"}
    with pytest.raises(SettingsError, match=r":1: tls_cert .*--tls-key is missing"):
        Configuration.read(written('tls_cert = "a.pem"'))


def test_file_may_be_named_in_the_environment(written, monkeypatch):
    monkeypatch.setenv("BROOK_CONFIG", str(written("port = 1111")))
    assert server.main.make_context("server.py", []).params["port"] == 1111


@pytest.mark.parametrize(
    ("given", "database", "collection", "namespace"),
    [
        ({}, "crm", ("people",), ("shop.carts", "shop.orders")),
        ({"database": "shop"}, "shop", ("carts", "orders"), ("crm.people",)),
        ({"database": "other"}, "crm", ("people",), ("shop.carts", "shop.orders")),
        (
            {"database": "shop", "collection": ("orders", "logs")},
            "shop", ("orders", "logs"), ("crm.people", "shop.carts"),
        ),
        ({"database": "shop", "collection": ("*",)}, "shop", ("*",), ("crm.people",)),
    ],
)  # fmt: skip
def test_collections_of_the_streams_are_followed(written, given, database, collection, namespace):
    text = "\n".join(
        f"[streams.{name}]\nnamespace = '{where}'"
        for name, where in (
            ("a", "shop.orders"),
            ("b", "shop.carts"),
            ("c", "crm.people"),
            ("d", "shop.orders"),
        )
    )
    settings = Settings(**Configuration.read(written(text)).followed(given))
    assert (settings.database, settings.collection, settings.namespace) == (database, collection, namespace)


def run(*arguments: str, input: str | None = None) -> tuple[int, str]:
    done = CliRunner().invoke(server.main, list(arguments), input=input)
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.output.strip()


def test_check_config_says_what_is_there_and_starts_nothing(written):
    path = written("port = 1\n" + ACCESS + STREAM)
    code, output = run("--config", str(path), "--check-config")
    assert (code, output) == (
        0,
        "the configuration is valid: 1 setting; access by tokens (HS256); streams: mine (shop.orders)",
    )
    code, output = run("--config", str(written("prot = 1")), "--check-config")
    assert code == 2
    assert f"{path}:1: prot is unknown" in output
    assert run("--check-config")[0] == 2


ALLOW = "[[streams.mine.allow]]\n"


@pytest.mark.parametrize(
    ("rules", "warnings"),
    [
        ([ALLOW, ALLOW], ["8: streams.mine.allow[1] is never used: allow[0]"]),
        ([ALLOW + "filter = { a = '$claims.sub' }\n", ALLOW], ["9: streams.mine.allow[1] is never used"]),
        ([ALLOW + "require = { role = 'x' }\n", ALLOW], []),
        # Clients without a token come past the first one.
        ([ALLOW, ALLOW + "public = true\n"], []),
        ([ALLOW, ALLOW + "public = true\n", ALLOW + "public = true"], ["10: streams.mine.allow[2]"]),
        ([ALLOW + "public = true\n", ALLOW], ["9: streams.mine.allow[1] is never used: allow[0]"]),
    ],
)
def test_rule_that_no_client_ever_gets_is_warned_of(written, rules, warnings):
    path = written("port = 1\n" + ACCESS + STREAM + "".join(rules))
    found = Configuration.read(path).warnings
    assert [
        str(warning).startswith(f"{path}:{said}") for warning, said in zip(found, warnings, strict=True)
    ] == [True] * len(warnings)
    code, output = run("--config", str(path), "--check-config")
    assert (code, output.count("\nwarning: ")) == (0, len(warnings))


def test_text_with_a_dollar_that_is_no_reference_stays_a_literal(written):
    text = STREAM + "filter = { price = '$5', unit = '$' }"
    assert Configuration.read(written(text)).streams[0].rules[0].filter["price"] == "$5"


DOCS = (Path(server.__file__).parent / "docs" / "configuration.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", DOCS, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_of_the_docs_is_valid(written, example):
    assert len(EXAMPLES) == 3
    Configuration.read(written(example if "[access]" in example else ACCESS + example))


def test_docs_have_every_key(written):
    with pytest.raises(SettingsError, match="there are: ") as raised:
        Configuration.read(written(ACCESS + "x = 1\n" + STREAM))
    keys = set(str(raised.value).partition("there are: ")[2].split(", "))
    with pytest.raises(SettingsError, match="there are: ") as raised:
        Configuration.read(written(STREAM + "x = 1"))
    keys |= set(str(raised.value).partition("there are: ")[2].split(", ")) - {"allow"}
    assert keys == set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| ([^|]+) \|", DOCS, re.MULTILINE))))


def test_demo_has_no_rules(written):
    code, output = run("--config", str(written(STREAM)), "--demo")
    assert code == 2
    assert "--demo has none" in output


# -- the commands for tokens -----------------------------------------------------------------------

RULES = ACCESS + STREAM + "require = { role = 'clerk' }\nfilter = { owner = '$claims.sub' }"


def test_token_is_made_and_checked(written):
    path = str(written(RULES))
    code, token = run("token", "--config", path, "--stream", "mine", "--sub", "u7", "--claim", "role=clerk")
    assert code == 0
    for arguments in ((token,), ()):
        code, output = run("check-token", "--config", path, *arguments, input=token)
        assert code == 0
        assert output.startswith("valid until ")
        assert '"sub": "u7"' in output
        assert output.endswith("opens /stream/mine: shop.orders (changes, live, count)")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["token", "--stream", "mine", "--sub", "u7"], 1, "your claims do not open the stream mine"),
        (
            ["token", "--stream", "mine", "--claim", "role=clerk"],
            1,
            "$claims.sub is missing; add --sub SUBJECT",
        ),
        (["token", "--claim", "role=clerk", "--claim", "exp=5"], 2, "exp comes from --ttl"),
        (["token", "--stream", "other"], 1, "there is no stream 'other'"),
        (["token", "--ttl", "10 years"], 2, "takes a time such as"),
        (["token", "--claim", "role"], 2, "takes NAME=VALUE"),
        (["check-token", "x.y.z"], 1, "the token is not accepted"),
        (["check-token", ""], 1, "the token is not accepted"),
    ],
)
def test_command_says_what_is_wrong(written, arguments, code, said):
    name, *rest = arguments
    got, output = run(name, "--config", str(written(RULES)), *rest)
    assert got == code
    assert said in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    "named", ['database = "shop"\ncollection = ["logs"]', 'namespace = ["shop.logs"]',
              'mongo = "mongodb://localhost/shop"\ncollection = ["logs"]'],
)  # fmt: skip
def test_signed_stream_of_a_collection_that_the_file_names_is_opened(written, named):
    path = str(written(f"{named}\n{ACCESS}signed_streams = true"))
    claim = 'brook={"streams": {"a": {"namespace": "shop.logs"}}}'
    code, token = run("token", "--config", path, "--claim", claim, "--stream", "a")
    assert code == 0, token
    assert "opens /stream/a: shop.logs" in run("check-token", "--config", path, token)[1]


@pytest.mark.parametrize("text", [STREAM, "[access]\nauthorize_url = 'http://x'\n" + STREAM])
def test_commands_need_a_key(written, text):
    for name in ("token", "check-token"):
        code, output = run(name, "--config", str(written(text)), input="x")
        assert code == 2
        assert "key_file" in output


def test_commands_need_a_file():
    assert run("token") == (2, run("token")[1])
    assert "--config FILE" in run("token")[1]
