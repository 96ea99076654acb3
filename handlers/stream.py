"""`GET /stream` and `/stream/{name}`, and `POST /stream` for bundles.

Read the request, join the list, hand over the socket.
"""

from __future__ import annotations

import datetime
import json
import re
from functools import partial
from http import HTTPStatus
from typing import Any

import tornado.web
from tornado.httputil import HTTPServerRequest
from tornado.iostream import StreamClosedError

from brook import sse
from brook.admission import Admission, Admitted, Lease
from brook.bundles import DEFAULT, named_streams, opened
from brook.delivery.replay import SINCE_CHARACTERS
from brook.delivery.subscriber import Subscriber
from brook.delivery.subscribers import SubscriberList
from brook.errors import BadRequest, ClientError, InvalidId, InvalidParameter, Unavailable
from brook.event import Position, Reset, ResetReason
from brook.readiness import Readiness
from brook.settings import Settings
from brook.source import Source
from brook.subscription import Subscription, Wanted
from handlers.base import ProblemHandler, problem_of
from handlers.connection import StreamConnection, close_after, descriptor, take_over
from handlers.cors import Cors
from handlers.credentials import QUERY_PARAMETER, CredentialReader
from handlers.descriptors import Descriptors
from handlers.framing import Framings
from handlers.head import STREAM_HEADERS, Heads
from handlers.limits import Limits
from handlers.subjects import Subjects
from handlers.tls_connection import stream_connection
from handlers.watcher import Watcher

_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]")


class StreamHandler(ProblemHandler):
    """Opens an event stream. It lives for the request only; the subscriber list keeps the socket."""

    allowed_methods = "GET, POST, OPTIONS"
    cross_origin_methods = "GET, POST, OPTIONS"

    def initialize(  # type: ignore[override]
        self,
        cors: Cors,
        settings: Settings,
        admission: Admission,
        credentials: CredentialReader,
        source: Source,
        subscribers: SubscriberList,
        readiness: Readiness,
        framings: Framings,
        heads: Heads,
        descriptors: Descriptors,
        limits: Limits,
        subjects: Subjects,
        watcher: Watcher,
    ) -> None:
        super().initialize(cors)
        self._configuration = settings
        self._admission = admission
        self._credentials = credentials
        self._source = source
        self._subscribers = subscribers
        self._readiness = readiness
        self._framings = framings
        self._heads = heads
        self._descriptors = descriptors
        self._limits = limits
        self._subjects = subjects
        self._watcher = watcher

    def prepare(self) -> None:
        """Set no headers: a stream's head does not use the headers of a handler."""

    def options(self, *_: str) -> None:
        """Answer a CORS preflight."""
        self._common_headers()
        super().options()

    @classmethod
    def waits(
        cls, request: HTTPServerRequest, admission: Admission, credentials: CredentialReader, **_: Any
    ) -> bool:
        """True if another server must be asked before the client can be let in."""
        try:
            return admission.asks_others and admission.waits(credentials.read(request))
        except ClientError:
            return False  # refused at once

    async def get(self, stream: str | None = None) -> None:
        """Join the list, from now or from the position at which the client was cut off."""
        try:
            credentials = self._credentials.read(self.request)
            admitted = await self._admission.admit(credentials, [stream or DEFAULT])
            self._open(stream, admitted)
        except Unavailable as error:
            self._retry_later(error)

    async def post(self, stream: str | None = None) -> None:
        """Join the list with several subscriptions."""
        try:
            self._check_bundle(stream)
            credentials = self._credentials.read(self.request)
            admitted = await self._admission.admit(credentials, named_streams(self.request.body))
            self._open_bundle(admitted)
        except Unavailable as error:
            self._retry_later(error)

    def open(self, stream: str | None = None) -> None:
        """Do the same as `get`, for a request that `waits` for nothing. Raises ClientError before it changes
        anything.
        """
        self._open(stream, self._admission.at_once(self._credentials.read(self.request)))

    def _open(self, stream: str | None, admitted: Admitted) -> None:
        parameters = self.query_as_text()
        if self._credentials.takes_query:
            parameters.pop(QUERY_PARAMETER, None)
        since, reset = self._since(parameters.pop("since", ["now"]))
        self._join(admitted.streams.subscription(stream, parameters), admitted.lease, since, reset)

    def _check_bundle(self, stream: str | None) -> None:
        if stream is not None:
            raise tornado.web.HTTPError(HTTPStatus.METHOD_NOT_ALLOWED)
        if self.request.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
            raise BadRequest("POST /stream takes a body with Content-Type: application/json")
        allowed = {QUERY_PARAMETER} if self._credentials.takes_query else set()
        if self.request.query_arguments.keys() - allowed:
            raise InvalidParameter("POST /stream takes its parameters in the body")

    def _open_bundle(self, admitted: Admitted) -> None:
        wanted = admitted.streams.bundle(self.request.body)
        since = None if wanted.since is None else self._position(wanted.since)
        frame = sse.frame(opened(wanted.tags), event="opened")
        self._join(wanted.bundle, admitted.lease, since, opened=frame, fresh=wanted.fresh)

    def _join(
        self,
        subscription: Wanted,
        lease: Lease | None,
        since: Position | None,
        reset: Reset | None = None,
        *,
        opened: bytes = b"",
        fresh: frozenset[str] = frozenset(),
    ) -> None:
        """Join the list. Raises Unavailable before it changes anything; a later failure closes the socket."""
        self._readiness.check()
        self._descriptors.check(descriptor(self.request))
        forwarded = self.request.headers.get("X-Forwarded-For")
        address = self._limits.check_stream(self.request.remote_ip or "", forwarded)
        self._subjects.check(lease, subscription)
        try:
            connection = self._take_over()
        except StreamClosedError:
            return
        subscriber = Subscriber(subscription, connection, self._configuration.queue_max_bytes, lease)
        connection.watch(
            drained=partial(self._subscribers.drained, subscriber),
            gone=partial(_gone, subscriber, self._subscribers, self._limits, address, self._subjects),
        )
        self._limits.enter_stream(address)
        self._subjects.enter(lease, subscription)
        try:
            self._subscribers.add(subscriber, since, reset, opened=opened, fresh=fresh)
            if isinstance(subscription, Subscription):
                self._source.joined(subscription, since)
        except BaseException:
            # Tornado no longer answers on a detached socket: the client would wait for ever.
            connection.close()
            raise

    def _since(self, values: list[str]) -> tuple[Position | None, Reset | None]:
        """The position to start from. The header wins over the parameter: a browser that reconnects sends
        both. A bad header gets a reset: an error status would stop the browser for good.
        """
        if len(values) > 1:
            raise InvalidParameter(f"the parameter 'since' is given {len(values)} times")
        # Browsers send the header in UTF-8; Tornado decodes headers as ISO 8859-1.
        header = self.request.headers.get("Last-Event-ID", "").encode("latin-1").decode(errors="replace")
        if not header:
            return self._position(values[0]), None
        try:
            return self._source.position(header), None
        except InvalidId:
            return None, Reset(ResetReason.INVALID_ID, since=header[:SINCE_CHARACTERS])

    def _position(self, text: str) -> Position | None:
        """The position that `since` names: an id, a time, or None for now."""
        if text == "now":
            return None
        if _TIME.match(text):
            try:
                # A query decodes a plus sign to a space, and clients often forget to encode it.
                time = datetime.datetime.fromisoformat(text.upper().replace(" ", "+"))
            except ValueError:
                raise InvalidParameter(f"since={text[:50]!r} is not an RFC 3339 time") from None
            if time.tzinfo is None:
                raise InvalidParameter(f"since={text[:50]!r} needs a time zone, such as Z")
            return self._source.position_at(time)
        try:
            return self._source.position(text)
        except InvalidId as error:
            raise InvalidId(
                f"since takes now, an id that a stream gave, or a time such as 2026-11-22T06:00:00Z: {error}"
            ) from None

    def _retry_later(self, error: Unavailable) -> None:
        """Answer with a short stream: every status but 200 would stop a browser's EventSource for good."""
        self._common_headers()
        for name, value in STREAM_HEADERS.items():
            self.set_header(name, value)
        self.problem_code = error.code
        data = json.dumps(problem_of(error))
        frame = sse.farewell("problem", data, self._configuration.jittered_retry_ms())
        # The client should reach another server, if there is one, and not reuse this connection.
        self.set_header("Connection", "close")
        close_after(self.finish(frame), self.request)

    def _take_over(self) -> StreamConnection:
        """Detach the socket from Tornado. From here on, the connection frames the body itself."""
        headers = self.request.headers
        framing = self._framings.choose(self.request.version, headers.get("Accept-Encoding", ""))
        head = self._heads.head(framing, headers.get("Origin"))
        return stream_connection(take_over(self.detach()), head, framing, self._watcher)


def _gone(
    subscriber: Subscriber, subscribers: SubscriberList, limits: Limits, address: str, subjects: Subjects
) -> None:
    """Forget a client that has left. A method instead would keep the handler in memory until then."""
    limits.leave_stream(address)
    subjects.leave(subscriber.lease, subscriber.subscription)
    subscribers.remove(subscriber)
