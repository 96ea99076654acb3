"""The pipeline of a change stream: the operator's collections, and nothing that a client chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from brook.catalog import ALL
from brook.namespaces import Namespaces

Pipeline = list[Mapping[str, Any]]

# Splits a change of more than 16 MB. It has to be the last stage.
_SPLIT: Mapping[str, Any] = {"$changeStreamSplitLargeEvent": {}}

# The fields that are needed to skip a change that is too large to be sent.
SLIM = {"$project": {"_id": 1, "operationType": 1, "ns": 1, "to": 1}}


def match(namespaces: Namespaces) -> Mapping[str, Any]:
    """The stage that selects the operator's collections, with their drops, renames and dropDatabase.

    It must never contain a client's filter, which would hide the event that a client resumes from. The shape
    of the stage decides how fast MongoDB passes over the rest of the log: flat lists take 1.0 s for 300,000
    entries, a condition for each database 2.0 s for two databases and over 9 s for ten. So with several
    databases, the lists admit each database with each collection, and `Namespaces.hold` decides.
    """
    databases = {"$in": sorted(namespaces.by_database)}
    named = set().union(*namespaces.by_database.values())
    if ALL in named:
        wanted: list[Mapping[str, Any]] = [{"ns.db": databases}, {"to.db": databases}]
    else:
        collections = {"$in": sorted(named)}
        wanted = [
            {"ns.db": databases, "ns.coll": collections},
            {"to.db": databases, "to.coll": collections},
            {"operationType": "dropDatabase", "ns.db": databases},
        ]
    # The stream of a dropped database ends with an "invalidate", which has no namespace.
    return {"$match": {"$or": [*wanted, {"operationType": "invalidate"}]}}


def pipeline(namespaces: Namespaces, stream: Mapping[str, Any], *, split: bool) -> Pipeline:
    """All stages of a change stream. `stream` has the options of `$changeStream`."""
    last: Sequence[Mapping[str, Any]] = [_SPLIT] if split else []
    return [{"$changeStream": stream}, match(namespaces), *last]
