"""`GET /documents` with claims that end while the request waits for its turn."""

from __future__ import annotations

import json
import math
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest
import tornado.web

from brook.admission import Admitted, Credentials, Everyone, Lease
from brook.streams import SingleStream
from brook.subscription import Subscription
from handlers import application
from tests.support.logs import build_service
from tests.support.processes import ROOT

gen_test = pytest.mark.gen_test


class Collection(SingleStream):
    """A stream that takes every parameter."""

    def subscription(self, stream: str | None, parameters: Mapping[str, Sequence[str]]) -> Subscription:
        return Subscription()


class Leased(Everyone):
    """Lets everyone in for the time of one lease."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(Collection())
        self.admitted = Admitted(Collection(), lease)

    async def admit(self, credentials: Credentials, streams: Sequence[str]) -> Admitted:
        return self.admitted


class SlowListings:
    """The lease has another end when the documents have been read."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.ends = math.inf
        self.given_back = 0

    @asynccontextmanager
    async def listing(self, wanted: Subscription) -> AsyncGenerator[str]:
        self.lease.expires = self.ends
        try:
            yield '{"docs":["secret"]}'
        finally:
            self.given_back += 1


@pytest.fixture
def listings() -> SlowListings:
    return SlowListings(Lease(time.time() + 60))


@pytest.fixture
def app(listings) -> tornado.web.Application:
    service = build_service()
    return application(
        service.settings,
        Leased(listings.lease),
        service.source,
        service.subscribers,
        service.readiness,
        ROOT / "static",
        listings=listings,
    )


@gen_test
async def test_documents_are_not_sent_after_the_end_of_the_claims(listings, http_client, base_url):
    listings.ends = time.time()
    answer = await http_client.fetch(base_url + "/documents", raise_error=False)
    assert (answer.code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert b"secret" not in answer.body
    problem = json.loads(answer.body)
    assert problem["code"] == "token-expired"
    assert "while the documents were read" in problem["detail"]
    assert listings.given_back == 1


@pytest.mark.parametrize("seconds", [60, math.inf])
@gen_test
async def test_documents_are_sent_before_the_end_of_the_claims(listings, http_client, base_url, seconds):
    listings.ends = time.time() + seconds
    answer = await http_client.fetch(base_url + "/documents")
    assert json.loads(answer.body) == {"docs": ["secret"]}
