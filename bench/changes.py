"""A bare change stream, in the driver's plainest words: batches as the server sends them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pymongo import MongoClient

# Tells the harness's own cursor from those of the servers.
READER = "bench-reader"


def batches(
    uri: str, database: str, collection: str, app_name: str | None = None
) -> Iterator[list[dict[str, Any]]]:
    """The changes from now on, for ever: what has arrived together, or after a second nothing.

    The first, empty list says that the stream is open.
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
