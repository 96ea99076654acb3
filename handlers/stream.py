"""`GET /stream`: read the request, join the list, hand over the socket."""

from __future__ import annotations

import json
import random
from functools import partial

from tornado.iostream import StreamClosedError

from brook import sse
from brook.errors import Draining, InvalidId, InvalidParameter, NotReady, WillPass
from brook.event import Position, Reset, ResetReason
from brook.replay import SINCE_CHARACTERS
from brook.subscriber import Subscriber
from handlers.base import ProblemHandler, Service, cors_headers, problem
from handlers.connection import StreamConnection
from handlers.framing import Framings

PARAMETERS = ("since",)

# What makes a response an event stream, and proxies pass it on as it comes.
STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}


class StreamHandler(ProblemHandler):
    """Opens an event stream. Lives for the request only: the list goes on with the socket."""

    def initialize(self, service: Service, framings: Framings) -> None:  # type: ignore[override]
        """Take what `server.py` has built, and how to put it on the wire."""
        super().initialize(service)
        self._framings = framings

    def get(self) -> None:
        """Join the list, from now or from where the client was cut off."""
        since, reset = self._since()
        try:
            self._check_ready()
        except WillPass as error:
            self._come_again(error)
            return
        service = self.service
        subscription = service.source.subscription()
        connection = self._take_over()
        subscriber = Subscriber(subscription, connection)
        try:
            connection.watch(
                drained=partial(service.subscribers.drained, subscriber),
                gone=partial(service.subscribers.remove, subscriber),
            )
        except StreamClosedError:
            return
        service.subscribers.add(subscriber, since, reset)
        service.source.welcome(subscription, since)

    def _since(self) -> tuple[Position | None, Reset | None]:
        """Where to start: the header goes before the parameter, as a browser that comes back sends
        both. A bad header gets a reset, as any error would stop the browser for good.
        """
        parameter = self._arguments().get("since", "now")
        if header := self.request.headers.get("Last-Event-ID", ""):
            try:
                return self.service.source.position(header), None
            except InvalidId:
                return None, Reset(ResetReason.INVALID_ID, since=header[:SINCE_CHARACTERS])
        return (None if parameter == "now" else self.service.source.position(parameter)), None

    def _arguments(self) -> dict[str, str]:
        """The query, each parameter once. A misspelt one must never mean "everything"."""
        arguments = {}
        for name, values in self.request.query_arguments.items():
            if name not in PARAMETERS:
                known = ", ".join(PARAMETERS)
                raise InvalidParameter(f"unknown parameter {name[:50]!r}; there is: {known}")
            if len(values) > 1:
                raise InvalidParameter(f"the parameter {name!r} is given {len(values)} times")
            try:
                arguments[name] = values[0].decode()
            except UnicodeDecodeError:
                raise InvalidParameter(f"the parameter {name!r} is not UTF-8") from None
        return arguments

    def _check_ready(self) -> None:
        if self.service.draining:
            raise Draining("the server is stopping; another one may take over")
        if not self.service.feed.running:
            raise NotReady("; ".join(self.service.feed.troubles()))

    def _come_again(self, error: WillPass) -> None:
        """Any status but 200 would stop a browser's EventSource for good: so this is a short stream."""
        for name, value in STREAM_HEADERS.items():
            self.set_header(name, value)
        retry_ms = round(self.service.settings.retry_ms * random.uniform(0.5, 1.5))
        data = json.dumps(problem(error.code, str(error)))
        self.finish(sse.retry(retry_ms)[:-1] + sse.frame(data, event="problem"))

    def _take_over(self) -> StreamConnection:
        """Detach the socket from Tornado. From here on, this project frames the body itself."""
        request, settings = self.request, self.service.settings
        framing = self._framings.choose(request.version, request.headers.get("Accept-Encoding", ""))
        headers = STREAM_HEADERS | cors_headers(settings, request.headers.get("Origin"))
        lines = ["HTTP/1.1 200 OK", "Vary: Accept-Encoding"]
        lines += (f"{name}: {value}" for name, value in (*headers.items(), *framing.headers))
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        return StreamConnection(self.detach(), head, framing, settings.write_timeout_seconds)
