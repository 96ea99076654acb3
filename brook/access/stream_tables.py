"""The tables `[streams.NAME]` of the configuration, read into rules."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from typing import Any, Final

from brook.access.claims import PREFIX, is_reference
from brook.access.rules import Rule, StreamRules, selection
from brook.errors import ClientError
from brook.query import Filter
from brook.settings import OF_MONGODB_ITSELF
from brook.subscription import Mode
from brook.toml_file import Table

_RULE: Final = ("require", "filter", "fields", "client_filter", "modes", "public")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REFERENCE: Final = re.compile(r"\$claims\.[^\s$]+")

# A text that is meant as a reference. The literal texts "$" and "$5" are none.
_LIKE_REFERENCE: Final = re.compile(r"\$[A-Za-z_{$]")

# A valid value for each cast, to check a rule's filter at the start, when there are no claims yet.
_EXAMPLES: Final = {
    "$oid": "0" * 24, "$date": "2000-01-01T00:00:00Z", "$uuid": "00000000-0000-0000-0000-000000000000",
    "$numberInt": "1", "$numberLong": "1", "$numberDouble": "1", "$numberDecimal": "1",
}  # fmt: skip


def read(tables: Table, *, access: bool) -> list[StreamRules]:
    """Return the rules of all streams. Without `[access]` there are no claims, and all streams are public.

    Raises SettingsError.
    """
    return [_stream(tables.table(name), name, access=access) for name in tables.values]


def _stream(table: Table, name: str, *, access: bool) -> StreamRules:
    if not _NAME.fullmatch(name):
        table.refuse("", "is not a name of 1 to 64 letters, digits, _ and -")
    table.only(("namespace", "allow", *_RULE))
    namespace = table.text("namespace")
    database, _, collection = namespace.partition(".")
    if not database or not collection or set(database) & set('/\\ "$\0*') or set(collection) & set("$\0*"):
        table.refuse("namespace", f"takes one collection, as db.coll, got {namespace!r}")
    if database in OF_MONGODB_ITSELF:
        table.refuse(
            "namespace", f"is in {database}, a database of MongoDB itself, which has no documents to stream"
        )
    rules = table.tables("allow")
    if rules and (own := next((key for key in _RULE if key in table), None)):
        table.refuse(own, "belongs into an [[allow]] table, because the stream has such tables")
    for rule in rules:
        rule.only(_RULE)
    made = [_rule(rule, access=access) for rule in rules or [table]]
    _warn_of_unused(rules, made)
    return StreamRules(name, namespace, made)


def _rule(table: Table, *, access: bool) -> Rule:
    require, filter = table.table("require").values, table.table("filter").values
    _check_require(table, require)
    _check_filter(table, filter)
    if not access:
        for key in ("require", "public"):
            if key in table:
                table.refuse(key, "needs an [access] table: without it, every client is let in")
        if PREFIX in json.dumps(filter):
            table.refuse("filter", "has $claims, and needs an [access] table")
    public = table.flag("public") or not access
    if public and (require or PREFIX in json.dumps(filter)):
        table.refuse("public", "lets in clients without claims, and excludes require and $claims")
    modes = table.texts("modes")
    for mode in modes or ():
        if mode not in set(Mode):
            table.refuse("modes", f"has {mode!r}; there are: {', '.join(Mode)}")
    for key in ("fields", "client_filter"):
        _check_names(table, key)
    return Rule(
        require,
        filter,
        table.texts("fields"),
        table.texts("client_filter"),
        frozenset(map(Mode, modes)) if modes is not None else frozenset(Mode),
        public,
    )


def _warn_of_unused(tables: Sequence[Table], rules: Sequence[Rule]) -> None:
    """Warn of the rules that no client ever gets, because one before them accepts it."""
    everybody: int | None = None
    clients_without_token: int | None = None
    for number, (table, rule) in enumerate(zip(tables, rules, strict=False)):
        before = clients_without_token if rule.public else everybody
        if before is not None:
            table.warn(f"is never used: allow[{before}] before it has no require, and accepts everybody")
        if not rule.require and everybody is None:
            everybody = number
        if rule.public and clients_without_token is None:
            clients_without_token = number


def _check_require(table: Table, require: Any) -> None:
    for path, wanted in require.items():
        if wanted in ("", []) or (isinstance(wanted, list) and "" in wanted):
            table.refuse(
                f"require.{path}", "takes a value that a claim can have, not an empty string or list"
            )
        for value in wanted if isinstance(wanted, list) else [wanted]:
            if not isinstance(value, str | int | float):
                table.refuse(f"require.{path}", "takes a string, a number, true or false, or a list of them")


def _check_filter(table: Table, filter: Any) -> None:
    """Refuse a filter that would be invalid with any claims, before the first client needs it."""
    try:
        Filter.parse(json.dumps(example(filter)))
    except ClientError as error:
        table.refuse("filter", f"is not a valid filter: {error}")
    except TypeError:
        table.refuse("filter", 'has a date of TOML; write { "$date" = "2000-01-01T00:00:00Z" }')
    except ValueError as error:
        table.refuse("filter", str(error))


def example(template: Any, name: str = "") -> Any:
    """Return a filter with example values instead of claims.

    Raises ValueError for a malformed reference: as a literal, it would match nothing, or with $ne everything.
    """
    if isinstance(template, dict):
        return {key: example(value, key) for key, value in template.items()}
    if isinstance(template, list):
        return [example(item) for item in template]
    if not isinstance(template, str):
        return template
    if "$claims" not in template:
        if _LIKE_REFERENCE.match(template):
            raise ValueError(f"has {template!r}, which is no claim; did you mean {_corrected(template)}?")
        return template
    if not is_reference(template) or not _REFERENCE.fullmatch(template):
        raise ValueError(f"has {template!r}: a reference such as $claims.sub stands alone")
    return ["1"] if name == "$in" else _EXAMPLES.get(name, "1")


def _corrected(text: str) -> str:
    """The reference that a text such as `$claim.sub`, `$sub` or `${claims.sub}` is meant to be."""
    first, dot, rest = text.strip("${} ").partition(".")
    is_misspelt = bool(dot) and bool(difflib.get_close_matches(first.lower(), ["claims"]))
    return PREFIX + (rest if is_misspelt else f"{first}{dot}{rest}")


def _check_names(table: Table, key: str) -> None:
    names = table.texts(key)
    try:
        if names:
            selection(names)
    except ClientError as error:
        table.refuse(key, str(error).removeprefix("fields").lstrip(": "))
    if key == "client_filter" and any(name.startswith("-") for name in names or ()):
        table.refuse(key, "takes the names of allowed fields; it cannot exclude any")
