"""The access rules of the servers: one public stream, and one that a token opens."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt

from tests.support.guarded import SECRET

CONFIGURATION = """
[access]
algorithms = ["HS256"]
key_file = "jwt.key"

[streams.creatures]
namespace = "chaos.creatures"
public = true
client_filter = ["w", "g", "n"]

[streams.mine]
namespace = "chaos.creatures"
filter = { w = "$claims.w" }
"""
TOKEN_SECONDS = 86_400


def token(claims: Mapping[str, Any]) -> str:
    """A token that outlives the run."""
    return jwt.encode({"exp": time.time() + TOKEN_SECONDS, **claims}, SECRET, "HS256")


def write(folder: Path) -> Path:
    """Write the configuration, and the key beside it."""
    (folder / "jwt.key").write_text(SECRET + "\n")
    path = folder / "brook.toml"
    path.write_text(CONFIGURATION)
    return path
