"""Every setting in one table: `--help`, the environment, the docs and the tests all read it."""

from __future__ import annotations

import dataclasses
import math
import random
import re
from dataclasses import dataclass
from typing import Any

from brook.errors import SettingsError

ENVIRONMENT_PREFIX = "BROOK_"

# What a browser sends as its Origin (RFC 6454): in lower case, without a path, a user or the usual port.
_ORIGIN = re.compile(r"(?!https://.*:443$|http://.*:80$)[a-z][a-z0-9+.-]*://[^/\s,?#@A-Z]+")


def _setting(default: Any, help: str, *, min: float | None = None, max: float | None = None) -> Any:
    return dataclasses.field(default=default, metadata={"help": help, "min": min, "max": max})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the operator chose; valid by construction. Units are in the names."""

    host: str = _setting("localhost", "Address to listen on; 0.0.0.0 for every interface.")
    port: int = _setting(3333, "Port to listen on; 0 picks a free one.", min=0, max=65535)
    database: str = _setting("babblingBrook", "Database to watch.")
    collection: tuple[str, ...] = _setting(
        ("creatures",), "Collection to watch; repeat it for several, * for all of the database."
    )
    namespace: tuple[str, ...] = _setting(
        (), "Further collection to watch, in any database: db.coll, or db.* for all of it; repeatable."
    )
    heartbeat_seconds: float = _setting(
        15.0, "Silence after which a client is sent a keep-alive.", min=0.1, max=3600
    )
    retry_ms: int = _setting(
        3000, "Time after which a client that was cut off should come back.", min=0, max=3_600_000
    )
    history_max_bytes: int = _setting(
        64 * 1024 * 1024, "Recent events kept in memory for clients that come back.", min=0
    )
    history_seconds: float = _setting(
        300.0, "Age up to which recent events are kept in memory.", min=0, max=7 * 86400
    )
    warm_up_seconds: float = _setting(
        60.0,
        "How far in the past to start reading the log, so that clients of a server that was "
        "restarted are served from memory.",
        min=0,
        max=86400,
    )
    queue_max_bytes: int = _setting(
        1024 * 1024, "Bytes that may wait for one slow client before it is disconnected.", min=1024
    )
    write_timeout_seconds: float = _setting(
        30.0, "Time for which a client may take nothing before it is disconnected.", min=0.1, max=3600
    )
    replay_cursors: int = _setting(
        4,
        "Cursors that may read the log at once for clients that come back from before the memory.",
        min=1,
        max=64,
    )
    processes: int = _setting(
        1,
        "Processes that share the port, each with a change stream of its own: about one a core.",
        min=1,
        max=256,
    )
    drain_seconds: float = _setting(
        5.0, "Time to say goodbye to every client when the server stops.", min=0, max=600
    )
    compression: str = _setting("gzip", "Compression for clients that accept it: gzip or off.")
    cors_origin: str = _setting("*", "Origin whose pages may read the stream; * for any, empty for none.")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field.name, getattr(self, field.name), field.metadata)
        if not self.host:
            raise SettingsError("--host takes an address; 0.0.0.0 is every one of this machine")
        if not _is_database(self.database):
            raise SettingsError(f"--database {self.database!r} is not a database name")
        if not self.collection or not all(map(_is_collection, self.collection)):
            raise SettingsError(f"--collection {' '.join(self.collection)!r} is not a collection name")
        for name in self.namespace:
            database, _, collection = name.partition(".")
            if not _is_database(database) or not _is_collection(collection):
                raise SettingsError(f"--namespace takes db.coll, or db.* for a whole database, got {name!r}")
        if self.compression not in ("gzip", "off"):
            raise SettingsError(f"--compression takes gzip or off, got {self.compression!r}")
        if self.cors_origin not in ("", "*") and not _ORIGIN.fullmatch(self.cors_origin):
            raise SettingsError(
                "--cors-origin takes one origin as browsers send it, such as https://example.org: in lower "
                f"case, without a path, a slash at its end, or the usual port; or *; got {self.cors_origin!r}"
            )

    def jittered_retry_ms(self) -> int:
        """When one of many that are sent away should come back: not all in the same instant."""
        return round(self.retry_ms * random.uniform(0.5, 1.5))


def flag(name: str) -> str:
    """The command line's name of a setting."""
    return "--" + name.replace("_", "-")


def environment_name(name: str) -> str:
    """The environment's name of a setting."""
    return ENVIRONMENT_PREFIX + name.upper()


def _is_database(name: str) -> bool:
    return bool(name) and not set(name) & set('/\\. "$\0')


def _is_collection(name: str) -> bool:
    return bool(name) and "$" not in name and "\0" not in name


def _check(name: str, value: Any, metadata: Any) -> None:
    lower, upper = metadata["min"], metadata["max"]
    if lower is None:
        return
    if not math.isfinite(value) or value < lower or (upper is not None and value > upper):
        bounds = f"at least {lower:g}" if upper is None else f"from {lower:g} to {upper:g}"
        raise SettingsError(f"{flag(name)} takes a number {bounds}, got {value}")
