"""Reads the documents of a query once, without following it: for `GET /documents`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress

from bson.errors import InvalidBSON

from brook.changes import documents
from brook.errors import NotReady, SnapshotTooLarge, SnapshotUnavailable
from brook.event import Position
from brook.live.frames import Renderer
from brook.settings import Settings
from brook.source import Source
from brook.subscription import Subscription

log = logging.getLogger(__name__)

# The query `{}` as BSON.
_EVERYTHING = b"\x05\0\0\0\0"

# Maximum size of an answer. Unlike a snapshot on a stream, it is made as a whole before it is sent.
MAX_BYTES = 32 * 1024 * 1024

# Number of tries to read a collection, each at a newer position, and the pause between them.
TRIES = 3
PAUSE_SECONDS = 0.5

# Maximum time that a request waits for its turns. It is then told to retry: clients that read slowly could
# otherwise hold up all others for minutes. A proxy commonly waits 30 to 60 seconds.
TURN_SECONDS = 10.0

_TOO_MANY_READS = "too many collections are read at the moment; retry"
_TOO_MANY_LARGE = "too many large answers are in work; retry, or ask for fewer documents or fields"


class _Large(Exception):
    """An answer has more bytes than may be kept without a place among the large ones."""


def documents_of(
    source: Source, wanted: Subscription, at: Position, limit: int
) -> AsyncGenerator[Sequence[bytes]]:
    """The documents of a live query at a position, as BSON, in parts. Raises like `Source.snapshot`."""
    assert wanted.namespaces is not None
    (namespace,) = wanted.namespaces
    query = _EVERYTHING if wanted.filter is None else wanted.filter.query
    sort = b"" if wanted.sort is None else wanted.sort.command
    return source.snapshot(namespace, query, at, sort=sort, limit=limit)


class Listings:
    """Reads the documents of queries, a bounded number of queries at once."""

    def __init__(self, settings: Settings, source: Source, reads: asyncio.Semaphore) -> None:
        self._max_documents = settings.snapshot_max_documents
        self._small_bytes = settings.queue_max_bytes
        self._source = source
        self._reads = reads
        # Large answers wait in memory until their clients have taken them, so their number is bounded, too.
        self._large = asyncio.Semaphore(settings.snapshot_cursors)

    @asynccontextmanager
    async def listing(self, wanted: Subscription) -> AsyncGenerator[str]:
        """The JSON of `{"docs":[...],"position":"t..."}`; leave the context when the client has taken it.

        Raises ClientError if the query is refused or has too many documents, NotReady if MongoDB cannot be
        read now, or its turn does not come in time.
        """
        until = asyncio.get_running_loop().time() + TURN_SECONDS
        text = await self._small(wanted, until) if self._large.locked() else None
        if text is None:
            async with _turn(self._large, until, _TOO_MANY_LARGE):
                text = await self._read_in_turn(wanted, MAX_BYTES, until)
                if len(text) > self._small_bytes:
                    yield text
                    return
        yield text

    async def _small(self, wanted: Subscription, until: float) -> str | None:
        """The answer, or None if it is large. A large one is not kept: it would hold memory or a read while
        it waits for its place.
        """
        try:
            return await self._read_in_turn(wanted, self._small_bytes, until)
        except _Large:
            return None

    async def _read_in_turn(self, wanted: Subscription, max_bytes: int, until: float) -> str:
        async with _turn(self._reads, until, _TOO_MANY_READS):
            for _ in range(TRIES - 1):
                with suppress(SnapshotUnavailable):
                    return await self._read(wanted, await self._source.now(), max_bytes)
                await asyncio.sleep(PAUSE_SECONDS)
            try:
                return await self._read(wanted, await self._source.now(), max_bytes)
            except SnapshotUnavailable as error:
                # MongoDB's text can name hosts, and goes to the log only.
                log.warning("a collection cannot be read for /documents: %s", error)
                raise NotReady("the collection cannot be read now; the server's log says why") from error

    async def _read(self, wanted: Subscription, at: Position, max_bytes: int) -> str:
        renderer = Renderer(wanted)
        texts: list[str] = []
        read = size = 0
        async with aclosing(documents_of(self._source, wanted, at, wanted.limit)) as parts:
            async for part in parts:
                read += len(part)
                self._check(wanted, read, size)
                for raw in part:
                    text = _text(renderer, raw)
                    texts += text
                    size += sum(map(len, text))
                self._check(wanted, read, size)
                if size > max_bytes:
                    raise _Large
                await asyncio.sleep(0)  # a large collection must not delay the events of other clients
        return f'{{"docs":[{",".join(texts)}],"position":"{at.id}"}}'

    def _check(self, wanted: Subscription, read: int, size: int) -> None:
        if read > self._max_documents and not wanted.limit:
            raise SnapshotTooLarge(
                f"the query has more than {self._max_documents:,} documents: ask for fewer with a filter, or "
                "for the first ones with sort and limit, or raise --snapshot-max-documents"
            )
        if size > MAX_BYTES:
            raise SnapshotTooLarge(
                f"the documents have more than {MAX_BYTES:,} characters: ask for fewer of them, or for "
                "fewer fields, or open the stream with mode=live, which has no such bound"
            )


@asynccontextmanager
async def _turn(places: asyncio.Semaphore, until: float, refusal: str) -> AsyncGenerator[None]:
    """Hold one of the places. Raises NotReady if none is free until a time of the event loop."""
    try:
        async with asyncio.timeout_at(until):
            await places.acquire()
    except TimeoutError:
        raise NotReady(refusal) from None
    try:
        yield
    finally:
        places.release()


def _text(renderer: Renderer, raw: bytes) -> list[str]:
    """The document, or nothing: MongoDB stores malformed BSON from careless programs."""
    try:
        return [renderer.text(documents.decode(raw))]
    except InvalidBSON:
        return []
