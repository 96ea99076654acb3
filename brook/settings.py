"""All settings in one table, which generates `--help` and the environment variables, and checks the docs."""

from __future__ import annotations

import dataclasses
import ipaddress
import math
import random
import re
from dataclasses import dataclass
from typing import Any

from brook.errors import SettingsError

ENVIRONMENT_PREFIX = "BROOK_"

# These databases hold no documents to stream. In a URI, they say where the user is defined.
OF_MONGODB_ITSELF = ("admin", "config", "local")

# The Origin header of a browser (RFC 6454): lower case, without a path, a user or the scheme's default port.
_ORIGIN = re.compile(r"(?!https://.*:443$|http://.*:80$)[a-z][a-z0-9+.-]*://[^/\s,?#@A-Z]+")

# A host name, without a port and a scheme.
_HOST = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def _setting(default: Any, help: str, *, min: float | None = None, max: float | None = None) -> Any:
    return dataclasses.field(default=default, metadata={"help": help, "min": min, "max": max})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The operator's settings, valid by construction. The name of a measure ends with its unit."""

    host: str = _setting("localhost", "Address to listen on; 0.0.0.0 for all interfaces.")
    port: int = _setting(3333, "Port to listen on; 0 picks a free one.", min=0, max=65535)
    tls_cert: str = _setting("", "PEM file with the certificate for https; read again on SIGHUP.")
    tls_key: str = _setting("", "PEM file with the key of --tls-cert.")
    database: str = _setting("babblingBrook", "Database to watch.")
    collection: tuple[str, ...] = _setting(
        ("creatures",), "Collection to watch; repeatable; * for all collections of the database."
    )
    namespace: tuple[str, ...] = _setting(
        (),
        "Additional collection to watch in any database: db.coll, or db.* for all of it; repeatable.",
    )
    heartbeat_seconds: float = _setting(
        15.0, "Idle time after which the server sends a keep-alive.", min=0.1, max=3600
    )
    retry_ms: int = _setting(
        3000, "Time after which a disconnected client should reconnect.", min=0, max=3_600_000
    )
    history_max_bytes: int = _setting(
        64 * 1024 * 1024, "Memory for recent events, for clients that reconnect.", min=0
    )
    history_seconds: float = _setting(
        300.0, "Maximum age of the recent events in memory.", min=0, max=7 * 86400
    )
    warm_up_seconds: float = _setting(
        60.0,
        "How far back the server reads the log when it starts, so that clients that reconnect after a "
        "restart are served from memory.",
        min=0,
        max=86400,
    )
    queue_max_bytes: int = _setting(
        1024 * 1024,
        "Maximum number of bytes queued for a slow client before it is disconnected.",
        min=1024,
    )
    write_timeout_seconds: float = _setting(
        30.0, "Time after which a client that reads nothing is disconnected.", min=0.1, max=3600
    )
    replay_cursors: int = _setting(
        4,
        "Maximum number of cursors that read the log for clients whose position is no longer in memory.",
        min=1,
        max=64,
    )
    snapshot_cursors: int = _setting(
        4, "Maximum number of result sets that are read at once for live mode.", min=1, max=64
    )
    snapshot_max_documents: int = _setting(
        100_000, "Maximum number of documents in a result set of live mode.", min=1
    )
    live_linger_seconds: float = _setting(
        30.0, "Time for which a result set is kept after its last client has left.", min=0, max=86400
    )
    processes: int = _setting(
        1,
        "Processes that share the port, each with its own change stream; about one per core.",
        min=1,
        max=256,
    )
    drain_seconds: float = _setting(
        5.0, "Time to close all client connections when the server stops.", min=0, max=600
    )
    drain_delay_seconds: float = _setting(
        0.0,
        "Time for which the server goes on after SIGTERM, while /readyz is 503 already: load balancers need "
        "it to notice.",
        min=0,
        max=600,
    )
    connection_max_seconds: float = _setting(
        0.0,
        "Time after which a client is asked to reconnect, so that load spreads over new servers; 0 for "
        "never. Each client gets a time between half of it and all of it.",
        min=0,
        max=7 * 86400,
    )
    metrics_port: int = _setting(
        0, "Port for /metrics alone; 0 serves it on the port of the streams.", min=0, max=65535
    )
    log_format: str = _setting("text", "Format of the log on stderr: text or json.")
    compression: str = _setting("gzip", "Compression for clients that accept it: gzip or off.")
    cors_origin: tuple[str, ...] = _setting(
        ("*",), "Origin whose pages may read the streams; repeatable; * for any, empty for none."
    )

    allowed_host: tuple[str, ...] = _setting(
        (),
        "Name under which clients reach the server, as in their Host header; repeatable; * for any. Without "
        "it, a server on localhost or with access rules answers to no other name.",
    )

    max_connections: int = _setting(
        100_000, "Maximum number of connections of a process, within the files that it may open.", min=1
    )
    max_connections_per_address: int = _setting(
        1000,
        "Maximum number of connections to a process from one address, or from one IPv6 /64 network. "
        "Connections from this machine are not counted.",
        min=1,
    )
    max_connections_per_subject: int = _setting(
        100, "Maximum number of connections of one subject (the claim `sub`) to a process.", min=1
    )
    max_subscriptions_per_subject: int = _setting(
        200, "Maximum number of different subscriptions of one subject to a process.", min=1
    )
    trusted_proxy: tuple[str, ...] = _setting(
        (),
        "Address or network of a proxy whose X-Forwarded-For names the client; repeatable.",
    )

    request_timeout_seconds: float = _setting(
        20.0,
        "Time for the line and headers of a request to arrive; also for its body, and until the next "
        "request of a connection.",
        min=0.1,
        max=3600,
    )
    header_max_bytes: int = _setting(
        64 * 1024, "Maximum size of a request's line and headers.", min=1024, max=1024 * 1024
    )
    url_max_bytes: int = _setting(
        32 * 1024, "Maximum size of a request's path and query.", min=256, max=1024 * 1024
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field.name, getattr(self, field.name), field.metadata)
        if not self.host:
            raise SettingsError("--host takes an address; 0.0.0.0 stands for all interfaces")
        if bool(self.tls_cert) != bool(self.tls_key):
            missing = "--tls-key" if self.tls_cert else "--tls-cert"
            raise SettingsError(f"--tls-cert and --tls-key go together: {missing} is missing")
        if not _is_database(self.database):
            raise SettingsError(f"--database {self.database!r} is not a database name")
        if self.database in OF_MONGODB_ITSELF:
            raise SettingsError(f"--database {self.database} is MongoDB's own: it has no documents to stream")
        if not self.collection or not all(map(_is_collection, self.collection)):
            raise SettingsError(f"--collection {' '.join(self.collection)!r} is not a collection name")
        for name in self.namespace:
            database, _, collection = name.partition(".")
            if not _is_database(database) or not _is_collection(collection):
                raise SettingsError(f"--namespace takes db.coll, or db.* for a whole database, got {name!r}")
            if database in OF_MONGODB_ITSELF:
                raise SettingsError(
                    f"--namespace {name}: {database} is MongoDB's own, and has no documents to stream"
                )
        if self.compression not in ("gzip", "off"):
            raise SettingsError(f"--compression takes gzip or off, got {self.compression!r}")
        if self.log_format not in ("text", "json"):
            raise SettingsError(f"--log-format takes text or json, got {self.log_format!r}")
        if self.cors_origin not in ((), ("",), ("*",)):
            _check_origins(self.cors_origin)
        for network in self.trusted_proxy:
            _check_network(network)
        for name in self.allowed_host:
            if name != "*" and not _HOST.fullmatch(name):
                raise SettingsError(
                    "--allowed-host takes a name such as brook.example.org, without a scheme and a port, "
                    f"or *; got {name!r}"
                )

    def jittered_retry_ms(self) -> int:
        """A random reconnection time, so that disconnected clients do not all return at once."""
        return round(self.retry_ms * random.uniform(0.5, 1.5))


def flag(name: str) -> str:
    """Return the command line option of a setting."""
    return "--" + name.replace("_", "-")


def environment_name(name: str) -> str:
    """Return the environment variable of a setting."""
    return ENVIRONMENT_PREFIX + name.upper()


def _is_database(name: str) -> bool:
    return bool(name) and not set(name) & set('/\\. "$\0')


def _is_collection(name: str) -> bool:
    return bool(name) and "$" not in name and "\0" not in name


def _check_origins(origins: tuple[str, ...]) -> None:
    for origin in origins:
        if origin in ("", "*"):
            raise SettingsError(f"--cors-origin {origin or repr(origin)} stands alone, without other origins")
        if not _ORIGIN.fullmatch(origin):
            raise SettingsError(
                "--cors-origin takes * or an origin as browsers send it, such as https://example.org: "
                f"lower case, without a path, a trailing slash or the default port; got {origin!r}"
            )


def _check_network(text: str) -> None:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise SettingsError(
            f"--trusted-proxy takes an address or a network, such as 10.0.0.7 or 10.0.0.0/8, got {text!r}"
        ) from None
    if network.prefixlen == 0:
        raise SettingsError(f"--trusted-proxy {text} would let every client choose its address")


def _check(name: str, value: Any, metadata: Any) -> None:
    lower, upper = metadata["min"], metadata["max"]
    if lower is None:
        return
    if not math.isfinite(value) or value < lower or (upper is not None and value > upper):
        bounds = f"at least {lower:g}" if upper is None else f"from {lower:g} to {upper:g}"
        raise SettingsError(f"{flag(name)} takes a number {bounds}, got {value}")
