"""The collections that the operator named, compared with the ones that exist."""

from __future__ import annotations

import contextlib
import difflib
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from pymongo.errors import OperationFailure

from brook.catalog import ALL
from brook.finding import Finding, Level
from brook.namespaces import Namespaces, first_names

log = logging.getLogger(__name__)

_PRE_IMAGES = "changeStreamPreAndPostImages"


async def examine(client: Any, namespaces: Namespaces, *, pre_images: bool) -> list[Finding]:
    """Return a finding for each collection. Raises PyMongoError."""
    findings = []
    for database, names in namespaces.by_database.items():
        existing = await _existing(client, database)
        others = await databases(client, database) if not existing else []
        for name in sorted(names):
            if name == ALL:
                findings.append(_all(database, existing, others))
            elif name not in existing:
                findings.append(_missing(database, name, existing, others))
            else:
                findings.append(_found(database, name, existing[name], pre_images=pre_images))
    return findings


async def warn(client: Any, namespaces: Namespaces) -> None:
    """Log a warning for each name that is likely to be mistyped. `--check` reports more."""
    # A user that may not list the collections gets no warnings.
    with contextlib.suppress(OperationFailure):
        for finding in await examine(client, namespaces, pre_images=False):
            if finding.level is Level.WARNING:
                log.warning("%s: %s (%s)", finding.subject, finding.says, finding.remedy)


async def names(client: Any, database: str) -> list[str]:
    """Return the names of a database's collections, without views. Raises PyMongoError."""
    existing = await _existing(client, database)
    return [name for name, info in existing.items() if info["type"] == "collection"]


async def _existing(client: Any, database: str) -> dict[str, Mapping[str, Any]]:
    # Without this option, a user that may not list all collections would be refused.
    cursor = await client[database].list_collections(authorizedCollections=True)
    found = {str(each["name"]): each async for each in cursor}
    return {name: each for name, each in found.items() if not name.startswith("system.")}


async def databases(client: Any, missing: str) -> list[str]:
    """Return the names of the databases that hold documents, except `missing`. Raises PyMongoError."""
    command = {"listDatabases": 1, "nameOnly": True, "authorizedDatabases": True}
    names = [str(each["name"]) for each in (await client.admin.command(command))["databases"]]
    return [name for name in names if name not in ("admin", "config", "local", missing)]


def _missing(database: str, name: str, existing: Mapping[str, Any], databases: list[str]) -> Finding:
    close = difflib.get_close_matches(name, existing, n=1)
    if close:
        remedy = f"is {close[0]} meant? --collection {close[0]}"
    elif existing:
        remedy = f"the database has: {listed(existing)}"
    elif databases:
        remedy = (
            f"the database has no collection at all; there are the databases {listed(databases)}: --database"
        )
    else:
        remedy = "the database is empty; the collection may be made later"
    # In a MongoDB without any documents, no name is likely to be mistyped.
    level = Level.WARNING if existing or databases else Level.NOTE
    return Finding(level, f"collection {database}.{name}", "there is none of this name yet", remedy)


def _all(database: str, existing: Mapping[str, Any], databases: list[str]) -> Finding:
    if existing:
        return Finding(Level.OK, f"database {database}", f"has the collections {listed(existing)}")
    remedy = f"there are the databases {listed(databases)}" if databases else ""
    return Finding(Level.NOTE, f"database {database}", "has no collection yet", remedy)


def _found(database: str, name: str, info: Mapping[str, Any], *, pre_images: bool) -> Finding:
    subject, kind = f"collection {database}.{name}", info["type"]
    if kind != "collection":
        says = f"it is a {kind}, which has no change stream"
        remedy = f"stream the collection behind the view: {info['options'].get('viewOn', '')}".rstrip(": ")
        return Finding(Level.WARNING, subject, says, remedy)
    if not pre_images or info["options"].get(_PRE_IMAGES, {}).get("enabled"):
        return Finding(Level.OK, subject, "exists")
    return Finding(
        Level.NOTE,
        subject,
        "exists, without pre-images: a delete sends only the _id, and before=1 has nothing to show",
        f'db.runCommand({{collMod: "{name}", {_PRE_IMAGES}: {{enabled: true}}}})',
    )


def listed(names: Iterable[str]) -> str:
    """List the first names in alphabetical order, and count the others."""
    return first_names(sorted(names))
