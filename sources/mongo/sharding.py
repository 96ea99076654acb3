"""A mongos, the router of a sharded cluster: its recognition, and a list of all that differs behind it.

From MongoDB's manual ("Change Streams Production Recommendations", "Sharded Clusters"); none of it was run,
because no mongos can be had where the tests run. `Deployment.sharded` says that the server is behind one.

- Events of all shards are merged by their cluster time, but several shards may have events of one time. So no
  checkpoint includes its time, and a transaction may always have more events (`sources/mongo/tail.py`).
- MongoDB keeps an `_id` unique within a shard only, unless it is the shard key. So MongoDB itself looks up
  the documents of updates (`updateLookup`): it knows the shard key (`sources/mongo/tail.py`).
- A mongos has no log of its own, so the log's length is not watched (`sources/mongo/window.py`, `doctor.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_mongos(hello: Mapping[str, Any]) -> bool:
    """Return True if the answer to `hello` is a mongos's."""
    return hello.get("msg") == "isdbgrid"
