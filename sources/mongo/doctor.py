"""The check of a MongoDB (`--check`): everything that matters to this server, with remedies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from pymongo.errors import OperationFailure, PyMongoError

from brook.errors import OperatorError
from brook.finding import Finding, Level
from brook.namespaces import Namespaces
from brook.settings import Settings
from sources.mongo import client as connection
from sources.mongo import collections, errors, indexes, look_alikes
from sources.mongo.indexes import FilteredStream
from sources.mongo.sharding import is_mongos
from sources.mongo.source import (
    PRE_IMAGES_WIRE_VERSION,
    SNAPSHOTS_WIRE_VERSION,
    SPLIT_EVENTS_VERSION,
    MongoSource,
)

# The driver's lowest: MongoDB 4.4.
LOWEST_WIRE_VERSION = 9

# A client that is away for longer than the log reaches back has to read its data anew.
SHORT_HOURS, GOOD_HOURS = 1.0, 24.0

# Share of the log's maximum size. A log below it has not yet cut off its beginning.
FULL_SHARE = 0.9

# Difference between the two clocks that the metrics of the lag compare.
SKEW_SECONDS = 1.0

# MongoDB's default. A write with majority waits for the next flush of the journal.
SLOW_JOURNAL_MS = 100

# The driver knows the other members only once the first has answered, and connects to each for up to 5 s
# (`connectTimeoutMS`). One that has neither answered nor refused by then is not going to.
DISCOVERY_SECONDS = 6.0

_WRITES = frozenset({"insert", "update", "remove", "dropCollection", "dropDatabase", "createCollection"})


async def examine(
    uri: str, settings: Settings, *, unnamed: bool = False, streams: Collection[FilteredStream] = ()
) -> list[Finding]:
    """Return all findings. Does not raise for an unusable MongoDB: that is a finding, too.

    `streams` are the configured streams. `unnamed` is true if no option names a collection, and the server
    would ask for one.
    """
    try:
        client = connection.connect(uri)
    except OperatorError as error:
        return [Finding(Level.ERROR, "URI", str(error))]
    try:
        findings = [finding async for finding in _Doctor(client, settings, streams).findings()]
    finally:
        client.close()
    if unnamed:
        says = f"the URI names the database {settings.database}, and no collection"
        findings.append(Finding(Level.ERROR, "collection", says, "--collection NAME, or --collection '*'"))
    if not any(finding.level is Level.ERROR for finding in findings):
        findings.append(await _change_stream(uri, settings))
    return findings


async def _change_stream(uri: str, settings: Settings) -> Finding:
    """Try to open the change stream as the server does."""
    source = MongoSource(uri, settings)
    try:
        await source.open()
    except OperatorError as error:
        return Finding(Level.ERROR, "change stream", str(error))
    finally:
        await source.close()
    return Finding(Level.OK, "change stream", f"opens on {Namespaces.of(settings)}")


class _Doctor:
    def __init__(self, client: Any, settings: Settings, streams: Collection[FilteredStream]) -> None:
        self._client = client
        self._streams = streams
        self._namespaces = Namespaces.of(settings)
        self._hello: Mapping[str, Any] = {}
        self._servers: list[Any] = []
        self._skew = 0.0

    async def findings(self) -> AsyncIterator[Finding]:
        try:
            await self._greet()
            build = await self._client.admin.command("buildInfo")
        except PyMongoError as error:
            says = str(errors.operator_error(error, self._client, self._namespaces))
            yield Finding(Level.ERROR, "reachable", says)
            return
        await self._discover()
        yield self._reachable()
        for finding in look_alikes.examine([server.address[0] for server in self._servers], build):
            yield finding
        yield self._version(build)
        yield self._clock()
        yield self._replica_set()
        for check in (self._privileges, self._collections, self._indexes, self._log, self._journal):
            try:
                async for finding in check():
                    yield finding
            except OperationFailure as error:
                subject = check.__name__.strip("_").replace("_", " ")
                if error.code == errors.UNAUTHORIZED:
                    yield Finding(Level.NOTE, subject, "this user may not look at it")
                else:
                    yield Finding(Level.NOTE, subject, f"cannot be looked at: {errors.one_line(error)}")
            except PyMongoError as error:
                yield Finding(Level.WARNING, "reachable", f"an answer failed: {errors.one_line(error)}")

    async def _greet(self) -> None:
        await self._client.admin.command("hello")  # connects, which takes time
        before = time.time()
        self._hello = await self._client.admin.command("hello")
        there: datetime = self._hello["localTime"]
        self._skew = there.replace(tzinfo=UTC).timestamp() - (before + time.time()) / 2

    async def _discover(self) -> None:
        """Note the servers that the driver knows, once it has tried to reach each of them."""
        until = time.monotonic() + DISCOVERY_SECONDS
        while True:
            self._servers = list(self._client.topology_description.server_descriptions().values())
            tried = all(server.is_server_type_known or server.error for server in self._servers)
            if tried or time.monotonic() > until:
                return
            await asyncio.sleep(0.02)  # the driver has no event to wait for

    def _names(self, *, answering: bool) -> str:
        servers = [server for server in self._servers if server.is_server_type_known is answering]
        return ", ".join(f"{host}:{port}" for host, port in sorted(server.address for server in servers))

    def _reachable(self) -> Finding:
        says, silent = f"MongoDB answers at {self._names(answering=True)}", self._names(answering=False)
        if silent and is_mongos(self._hello):
            remedy = "start it, or take it out of the URI"
            return Finding(Level.WARNING, "reachable", f"{says}, and not at {silent}", remedy)
        return Finding(Level.OK, "reachable", says)

    def _version(self, build: Mapping[str, Any]) -> Finding:
        version, wire = build["version"], self._hello["maxWireVersion"]
        if wire < LOWEST_WIRE_VERSION:
            return Finding(
                Level.ERROR, "version", f"MongoDB {version} is too old", "it has to be 4.4 or later"
            )
        lacks = []
        if wire < SNAPSHOTS_WIRE_VERSION:
            lacks.append("live queries and exact updates (5.0)")
        if wire < PRE_IMAGES_WIRE_VERSION:
            lacks.append("documents before a change, and lags in milliseconds (6.0)")
        if tuple(build["versionArray"][:3]) < SPLIT_EVENTS_VERSION:
            lacks.append("changes of more than 16 MB (6.0.9)")
        if lacks:
            says = f"MongoDB {version} lacks {'; '.join(lacks)}"
            return Finding(Level.NOTE, "version", says, "update MongoDB if one of them matters")
        return Finding(Level.OK, "version", f"MongoDB {version}")

    def _clock(self) -> Finding:
        says = f"MongoDB's clock and this machine's differ by {abs(self._skew):.3f} s"
        if abs(self._skew) < SKEW_SECONDS:
            return Finding(Level.OK, "clock", says)
        remedy = "keep both clocks right with NTP: the metrics of the lag compare them"
        return Finding(Level.WARNING, "clock", says, remedy)

    def _replica_set(self) -> Finding:
        hello, subject = self._hello, "replica set"
        if hello.get("isreplicaset"):
            return Finding(Level.ERROR, subject, errors.NOT_INITIATED)
        if is_mongos(hello):
            says = "this is a mongos of a sharded cluster, on which this project's tests do not run"
            return Finding(Level.NOTE, subject, says, "try your own cases first")
        if "setName" not in hello:
            return Finding(Level.ERROR, subject, errors.STANDALONE)
        # Hidden members are not in the answer. No client is meant to know them.
        members = [*hello.get("hosts", []), *hello.get("passives", []), *hello.get("arbiters", [])]
        if len(members) == 1:
            says = f"{hello['setName']} has one member: while it restarts, no events flow"
            return Finding(
                Level.NOTE, subject, says, "three members on three machines survive the loss of one"
            )
        if "primary" not in hello:
            says = f"{hello['setName']} has no primary now: nothing can be written"
            return Finding(Level.WARNING, subject, says, "see rs.status() for the members that are down")
        if trouble := self._trouble(len(members)):
            remedy = (
                "rs.status() in mongosh says if a member is down: start it, or remove it with rs.remove(); "
                "if it runs, let this machine reach it"
            )
            return Finding(Level.WARNING, subject, trouble, remedy)
        return Finding(
            Level.OK, subject, f"{hello['setName']} has {len(members)} members: {', '.join(members)}"
        )

    def _trouble(self, members: int) -> str:
        """The members that do not answer, and whether too few have the data; empty if all is well."""
        found = []
        if silent := self._names(answering=False):
            found.append(f"{silent} {'do' if ', ' in silent else 'does'} not answer")
        with_data = [each for each in self._servers if each.server_type_name in ("RSPrimary", "RSSecondary")]
        # A change is in the change stream once a majority has it, and an arbiter never has it. With
        # directConnection, the driver knows one member only.
        if len(self._servers) > 1 and len(with_data) <= members // 2:
            found.append(f"the data is on {len(with_data)} of {members} members, and events may not flow")
        return ": ".join(found)

    async def _privileges(self) -> AsyncIterator[Finding]:
        status = await self._client.admin.command({"connectionStatus": 1, "showPrivileges": True})
        info = status["authInfo"]
        if not info["authenticatedUsers"]:
            says = "MongoDB asks for no user: each program that reaches it can read and write everything"
            remedy = "turn on access control, unless nothing else can reach it"
            yield Finding(Level.WARNING, "privileges", says, remedy)
            return
        excess = {
            action
            for privilege in info.get("authenticatedUserPrivileges", [])
            if privilege["resource"].get("db", "") in ("", *self._namespaces.by_database)
            for action in privilege["actions"]
        } & _WRITES
        if excess:
            remedy = f'a user with {{role: "read", db: "{self._namespaces.default}"}} is enough'
            yield Finding(
                Level.WARNING, "privileges", "the user may write, and the server only reads", remedy
            )
        else:
            yield Finding(Level.OK, "privileges", "the user may read, and not write")

    async def _collections(self) -> AsyncIterator[Finding]:
        pre_images = self._hello["maxWireVersion"] >= PRE_IMAGES_WIRE_VERSION
        for finding in await collections.examine(self._client, self._namespaces, pre_images=pre_images):
            yield finding

    async def _indexes(self) -> AsyncIterator[Finding]:
        for finding in await indexes.examine(self._client, self._streams):
            yield finding

    async def _log(self) -> AsyncIterator[Finding]:
        log = self._client.local["oplog.rs"]
        try:
            first = await log.find_one({}, {"ts": 1}, sort=[("$natural", 1)])
            last = await log.find_one({}, {"ts": 1}, sort=[("$natural", -1)])
            size = await self._client.local.command("collStats", "oplog.rs")
        except OperationFailure as error:
            if error.code != errors.UNAUTHORIZED:
                raise
            says = "the user may not read local, so that the length of the log is not known"
            yield Finding(Level.NOTE, "oplog", says, 'grant {role: "read", db: "local"}, too')
            return
        if first is None or last is None:
            return  # a mongos has none
        hours = (last["ts"].time - first["ts"].time) / 3600
        says = f"the log reaches back {hours:.1f} h: a client that is away for longer has missed changes"
        if size["size"] < FULL_SHARE * size["maxSize"]:
            full = size["size"] / size["maxSize"]
            yield Finding(Level.OK, "oplog", f"{says}; it is {full:.0%} full, and will reach back further")
            return
        level = Level.WARNING if hours < SHORT_HOURS else Level.NOTE if hours < GOOD_HOURS else Level.OK
        remedy = (
            "" if level is Level.OK else "db.adminCommand({replSetResizeOplog: 1, minRetentionHours: 24})"
        )
        yield Finding(level, "oplog", says, remedy)

    async def _journal(self) -> AsyncIterator[Finding]:
        options = await self._client.admin.command("getCmdLineOpts")
        journal = options.get("parsed", {}).get("storage", {}).get("journal", {})
        interval = int(journal.get("commitIntervalMs", SLOW_JOURNAL_MS))
        says = f"the journal is flushed every {interval} ms, and an event waits for it"
        if interval < SLOW_JOURNAL_MS:
            yield Finding(Level.OK, "journal", says)
        else:
            remedy = "storage.journal.commitIntervalMs: 10 makes events earlier, for more disk writes"
            yield Finding(Level.NOTE, "journal", says, remedy)
