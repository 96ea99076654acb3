"""Databases that speak MongoDB's protocol and are not MongoDB, and the features that they lack.

The facts are from their documentation; none of them was run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from brook.finding import Finding, Level

# The driver recognises them by the same host names.
_BY_HOST = {
    ".docdb.amazonaws.com": "DocumentDB",
    ".docdb-elastic.amazonaws.com": "DocumentDB",
    ".mongocluster.cosmos.azure.com": "DocumentDB of Azure",
    ".cosmos.azure.com": "Cosmos DB",
}

_LACKS = {
    "DocumentDB": (
        "Amazon DocumentDB: change streams are off until they are turned on for each collection; its log "
        "keeps 3 hours by default; there are no pre-images, and no reads at a given time, so no live queries",
        "turn them on with the command modifyChangeStreams, and lengthen the log with the parameter "
        "change_stream_log_retention_duration",
    ),
    "Cosmos DB": (
        "Azure Cosmos DB: change streams report no deletes, and accept only a certain form of pipeline",
        "use MongoDB; there is no setting that helps",
    ),
    "DocumentDB of Azure": (
        "Azure DocumentDB, once Cosmos DB for MongoDB vCore: change streams are off until they are turned "
        "on, and nothing of it was tried with this server",
        "turn them on, see whether the change stream opens, and whether deletes arrive",
    ),
    "FerretDB": (
        "FerretDB: there are no change streams",
        "use MongoDB; there is no setting that helps",
    ),
}


def examine(hosts: Iterable[str], build: Mapping[str, Any]) -> list[Finding]:
    """Return a finding for a look-alike, known by its host names or by its `buildInfo`; none for MongoDB."""
    name = _name(hosts, build)
    if not name:
        return []
    says, remedy = _LACKS[name]
    # A warning only: opening the change stream will show if it works after all.
    return [Finding(Level.WARNING, "look-alike", says, remedy)]


def _name(hosts: Iterable[str], build: Mapping[str, Any]) -> str:
    if any(key.lower().startswith("ferretdb") for key in build):
        return "FerretDB"
    for host in hosts:
        for suffix, name in _BY_HOST.items():
            if host.lower().endswith(suffix):
                return name
    return ""
