"""The indexes for the filters of the configured streams. Without one, each snapshot scans the collection."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from brook.finding import Finding, Level

# Below this number of documents, reading all of them is quick.
SMALL = 1000

# From this number on, a missing index is likely to be a mistake.
LARGE = 10_000


@dataclass(frozen=True, slots=True)
class FilteredStream:
    """A configured stream, and the fields of its filter. An index that begins with one of them helps."""

    name: str
    namespace: str
    fields: Collection[str]


async def examine(client: Any, streams: Collection[FilteredStream]) -> list[Finding]:
    """Return a finding for each stream with a filter. Raises PyMongoError."""
    findings = []
    for stream in streams:
        if not stream.fields:
            continue
        database, _, name = stream.namespace.partition(".")
        collection = client[database][name]
        count = await collection.estimated_document_count()
        first = {next(iter(index["key"])) async for index in collection.list_indexes()}
        findings.append(_finding(stream, name, count, first))
    return findings


def _finding(stream: FilteredStream, collection: str, count: int, first: Collection[str]) -> Finding:
    subject, fields = f"stream {stream.name}", sorted(stream.fields)
    if helping := [field for field in fields if field in first]:
        return Finding(Level.OK, subject, f"an index begins with {helping[0]}")
    if count < SMALL:
        return Finding(Level.OK, subject, f"{stream.namespace} is small, and needs no index")
    says = f"no index begins with {' or '.join(fields)}: each live query reads all {count:,} documents"
    level = Level.WARNING if count >= LARGE else Level.NOTE
    return Finding(level, subject, says, f'db.{collection}.createIndex({{"{fields[0]}": 1}})')
