"""A bare change stream without the driver's cursor: yields batches as MongoDB sends them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pymongo import MongoClient

# Distinguishes the harness's own cursor from the cursors of the servers.
READER = "bench-reader"


def batches(
    uri: str, database: str, collection: str, app_name: str | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Yield the changes from now on in batches, without end; an empty batch after an idle second.

    The first batch is empty and means that the stream is open.
    """
    with MongoClient[Any](uri, appname=app_name) as client, client.start_session() as session:
        source = client[database]
        pipeline = [{"$changeStream": {}}]
        command = {"aggregate": collection, "pipeline": pipeline, "cursor": {}}
        cursor = source.command(command, session=session)["cursor"]
        yield cursor["firstBatch"]
        while True:
            command = {"getMore": cursor["id"], "collection": collection, "maxTimeMS": 1000}
            yield source.command(command, session=session)["cursor"]["nextBatch"]
