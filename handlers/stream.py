"""`GET /stream` and `/stream/{name}`: read the request, join the list, hand over the socket."""

from __future__ import annotations

import datetime
import json
import re
import time
from functools import partial
from typing import Any

from tornado.httputil import format_timestamp
from tornado.iostream import StreamClosedError

from brook import sse
from brook.delivery.replay import SINCE_CHARACTERS
from brook.delivery.subscriber import Subscriber
from brook.delivery.subscribers import SubscriberList
from brook.errors import InvalidId, InvalidParameter, Unavailable
from brook.event import Position, Reset, ResetReason
from brook.readiness import Readiness
from brook.settings import Settings
from brook.source import Source
from brook.streams import Streams
from handlers.base import ProblemHandler, problem_of
from handlers.connection import StreamConnection, descriptor
from handlers.cors import Cors
from handlers.descriptors import Descriptors
from handlers.framing import Framings

_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]")

# What makes a response an event stream, and proxies pass it on as it comes.
STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}


class StreamHandler(ProblemHandler):
    """Opens an event stream. Lives for the request only: the list goes on with the socket."""

    def initialize(  # type: ignore[override]
        self,
        cors: Cors,
        settings: Settings,
        streams: Streams,
        source: Source,
        subscribers: SubscriberList,
        readiness: Readiness,
        framings: Framings,
        descriptors: Descriptors,
    ) -> None:
        super().initialize(cors)
        self._configuration = settings
        self._streams = streams
        self._source = source
        self._subscribers = subscribers
        self._readiness = readiness
        self._framings = framings
        self._descriptors = descriptors

    def get(self, stream: str | None = None) -> None:
        """Join the list, from now or from where the client was cut off."""
        parameters = self._parameters()
        since, reset = self._since(parameters.pop("since", ["now"]))
        subscription = self._streams.subscription(stream, parameters)
        try:
            self._readiness.check()
            self._descriptors.check(descriptor(self.request))
        except Unavailable as error:
            self._retry_later(error)
            return
        try:
            connection = self._take_over()
            subscriber = Subscriber(subscription, connection, self._configuration.queue_max_bytes)
            connection.watch(
                drained=partial(self._subscribers.drained, subscriber),
                gone=partial(self._subscribers.remove, subscriber),
            )
        except StreamClosedError:
            return
        try:
            self._subscribers.add(subscriber, since, reset)
            self._source.joined(subscription, since)
        except BaseException:
            # Tornado answers no more for a socket that it gave away: the client would wait for ever.
            connection.close()
            raise

    def _since(self, values: list[str]) -> tuple[Position | None, Reset | None]:
        """Where to start: the header goes before the parameter, as a browser that comes back sends
        both. A bad header gets a reset, as any error would stop the browser for good.
        """
        if len(values) > 1:
            raise InvalidParameter(f"the parameter 'since' is given {len(values)} times")
        # Browsers send it in UTF-8; Tornado reads headers as ISO 8859-1.
        header = self.request.headers.get("Last-Event-ID", "").encode("latin-1").decode(errors="replace")
        if not header:
            return self._position(values[0]), None
        try:
            return self._source.position(header), None
        except InvalidId:
            return None, Reset(ResetReason.INVALID_ID, since=header[:SINCE_CHARACTERS])

    def _position(self, text: str) -> Position | None:
        """The place that `since` names: an id, a time, or now."""
        if text == "now":
            return None
        if _TIME.match(text):
            try:
                # A plus sign in a query is a space, and nobody remembers to encode it.
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

    def _parameters(self) -> dict[str, list[str]]:
        """The query as text."""
        parameters = {}
        for name, values in self.request.query_arguments.items():
            try:
                parameters[name] = [value.decode() for value in values]
            except UnicodeDecodeError:
                raise InvalidParameter(f"the parameter {name[:50]!r} is not UTF-8") from None
        return parameters

    def _retry_later(self, error: Unavailable) -> None:
        """Any status but 200 would stop a browser's EventSource for good: so this is a short stream."""
        for name, value in STREAM_HEADERS.items():
            self.set_header(name, value)
        data = json.dumps(problem_of(error))
        frame = sse.farewell("problem", data, self._configuration.jittered_retry_ms())
        # The client shall come to another server, if there is one: not back through this connection.
        self.set_header("Connection", "close")
        connection: Any = self.request.connection
        # Tornado closes it only if the request asked for that.
        self.finish(frame).add_done_callback(lambda _: connection.stream.close())

    def _take_over(self) -> StreamConnection:
        """Detach the socket from Tornado. From here on, this project frames the body itself."""
        request = self.request
        framing = self._framings.choose(request.version, request.headers.get("Accept-Encoding", ""))
        headers = STREAM_HEADERS | self._cors.headers(request.headers.get("Origin"))
        lines = ["HTTP/1.1 200 OK", f"Date: {format_timestamp(time.time())}", "Vary: Accept-Encoding"]
        lines += (f"{name}: {value}" for name, value in (*headers.items(), *framing.headers))
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        return StreamConnection(self.detach(), head, framing)
