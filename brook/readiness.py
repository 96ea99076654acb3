"""Readiness: whether new clients should be sent to this server."""

from __future__ import annotations

from brook.errors import Draining, NotReady
from brook.feed import Feed


class Readiness:
    """What `/readyz` says, and what a new stream is refused for."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._draining = False

    def drain(self) -> None:
        """Refuse new streams from now on: the server is stopping."""
        self._draining = True

    def reasons(self) -> list[str]:
        """The reasons to send new clients elsewhere; empty when there are none."""
        stopping = ["the server is stopping"] if self._draining else []
        return stopping + self._feed.not_ready_reasons()

    def check(self) -> None:
        """Raise Draining or NotReady if a stream cannot be opened now.

        A stream can be opened while MongoDB is interrupted: it goes on when MongoDB does.
        """
        if self._draining:
            raise Draining("the server is stopping; another one may take over")
        if not self._feed.running:
            raise NotReady("; ".join(self._feed.not_ready_reasons()))
