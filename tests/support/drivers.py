"""Marks of tests that need a newer driver."""

from __future__ import annotations

import pymongo
import pytest

# Before, a UUID with another length than 16 bytes makes the whole document unreadable: `unreadable-event`.
needs_odd_uuids = pytest.mark.skipif(
    pymongo.version_tuple < (4, 20), reason="this driver reads no UUID of another length"
)
