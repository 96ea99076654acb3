"""Readiness: the reasons to send new clients to another server."""

from __future__ import annotations

from brook.errors import Draining, NotReady
from brook.feed import Feed


class Readiness:
    """The reasons that `/readyz` reports, and the check that each new stream has to pass."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._leaving = False
        self._draining = False

    def leave(self) -> None:
        """Report that the server is about to stop. New streams are still let in."""
        self._leaving = True

    def drain(self) -> None:
        """Refuse new streams from now on: the server is stopping."""
        self._draining = True

    def reasons(self) -> list[str]:
        """Return the reasons to send new clients elsewhere; empty if the server is ready."""
        stopping = ["the server is stopping"] if self._leaving or self._draining else []
        return stopping + self._feed.not_ready_reasons()

    def check(self) -> None:
        """Raise Draining or NotReady if a stream cannot be opened now.

        A stream can be opened while MongoDB is unreachable. It continues when MongoDB returns.
        """
        if self._draining:
            raise Draining("the server is stopping; retry, another server may take over")
        if not self._feed.running:
            raise NotReady("; ".join(self._feed.not_ready_reasons()))
