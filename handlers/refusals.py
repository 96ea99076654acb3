"""Counts the requests that are refused, by the code of the problem, and logs each request at debug level."""

from __future__ import annotations

import logging

import tornado.web

from handlers.base import STATUS, ProblemHandler

log = logging.getLogger(__name__)


class Refusals:
    """The number of refused requests by code. Tornado calls `log` at the end of each request."""

    def __init__(self) -> None:
        self.by_code = dict.fromkeys(STATUS, 0)

    def log(self, handler: tornado.web.RequestHandler) -> None:
        """Count a refusal. The log has no query: it may hold a token, a filter or a document's `_id`."""
        code = handler.problem_code if isinstance(handler, ProblemHandler) else ""
        if code:
            self.by_code[code] = self.by_code.get(code, 0) + 1
        request = handler.request
        log.debug("%d %s %s", handler.get_status(), request.method, request.path)
