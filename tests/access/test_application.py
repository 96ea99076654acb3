"""The operator's application: asked for claims, and asked again."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from brook.access import application as module
from brook.access.application import MAX_QUESTIONS, MAX_WAITING, Application
from brook.admission import Credentials
from brook.errors import FetchFailed, Forbidden, NotReady, Unauthenticated

gen_test = pytest.mark.gen_test(timeout=30)

COOKIE = Credentials(cookie="session=1", address="10.0.0.7")


class Fake:
    """An application that answers what it is told."""

    def __init__(self, answer: Any = None, status: int = 200, **options: Any) -> None:
        self.answer = {"claims": {"sub": "u7"}, "seconds": 300} if answer is None else answer
        self.status = status
        self.now = 1000.0
        self.headers: list[dict[str, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.application = Application("http://app/brook", self._ask, lambda: self.now, **options)

    async def _ask(self, url: str, headers: Any) -> tuple[int, bytes]:
        assert url == "http://app/brook"
        self.headers.append(dict(headers))
        await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        body = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
        return self.status, body


@gen_test
async def test_application_hears_the_cookie_the_streams_and_the_address():
    fake = Fake()
    lease = await fake.application.lease(COOKIE, ["mine", "a,b", "x\r\nEvil: 1", ""])
    assert (lease.subject, lease.expires) == ("u7", 1300.0)
    assert fake.headers == [{"Cookie": "session=1", "X-Brook-Stream": "mine", "X-Forwarded-For": "10.0.0.7"}]


@pytest.mark.parametrize(
    ("status", "error"), [(401, Unauthenticated), (403, Forbidden), (302, NotReady), (500, NotReady)]
)
@gen_test
async def test_status_is_its_verdict(status, error):
    with pytest.raises(error):
        await Fake(status=status).application.lease(COOKIE, ["mine"])


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>", [], {}, {"claims": {}}, {"claims": [], "seconds": 5}, {"claims": {}, "seconds": "5"},
        {"claims": {}, "seconds": True}, {"claims": {}, "seconds": 0}, {"claims": {}, "seconds": 1e9},
        {"claims": {}, "seconds": None}, {"seconds": 5}, FetchFailed("no answer"), b"[" * 100_000,
    ],
)  # fmt: skip
@gen_test
async def test_anything_else_is_a_failure_that_passes(answer, caplog):
    with pytest.raises(NotReady):
        await Fake(answer).application.lease(COOKIE, ["mine"])
    assert "authorize_url fails" in caplog.text


@gen_test
async def test_failures_are_told_once_and_their_end(caplog):
    caplog.set_level("INFO")
    fake = Fake(FetchFailed("no answer"))
    for _ in range(3):
        with pytest.raises(NotReady):
            await fake.application.lease(COOKIE, ["mine"])
    fake.answer = {"claims": {}, "seconds": 5}
    await fake.application.lease(COOKIE, ["mine"])
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "authorize_url fails, and new clients are told to retry",
        "authorize_url answers again",
    ]


@gen_test
async def test_questions_are_bounded_at_once_and_in_waiting():
    fake = Fake()
    fake.gate.clear()
    asking = [asyncio.create_task(fake.application.lease(COOKIE, ())) for _ in range(MAX_WAITING)]
    while len(fake.headers) < MAX_QUESTIONS:
        await asyncio.sleep(0)
    with pytest.raises(NotReady, match="too many"):
        await fake.application.lease(COOKIE, ())
    assert len(fake.headers) == MAX_QUESTIONS
    fake.gate.set()
    assert len(await asyncio.gather(*asking)) == MAX_WAITING


@gen_test
async def test_client_does_not_wait_for_its_turn_for_ever():
    fake = Fake(turn_seconds=0.05)
    fake.gate.clear()
    asking = [asyncio.create_task(fake.application.lease(COOKIE, ())) for _ in range(MAX_QUESTIONS + 3)]
    done, waiting = await asyncio.wait(asking, timeout=20, return_when=asyncio.FIRST_EXCEPTION)
    assert len(done) == 3
    for task in done:
        with pytest.raises(NotReady, match="too many"):
            task.result()
    fake.gate.set()
    assert len(await asyncio.gather(*waiting)) == MAX_QUESTIONS
    # Nothing is left of the ones that gave up.
    await asyncio.gather(*(fake.application.lease(COOKIE, ()) for _ in range(2 * MAX_QUESTIONS)))


async def renewed(monkeypatch: pytest.MonkeyPatch, fake: Fake, questions: int) -> None:
    """Let the renewal run until so many questions were asked in all, and one round more."""
    rounds = asyncio.Queue[None]()

    async def sleep(seconds: float) -> None:
        rounds.put_nowait(None)
        await asyncio.tasks.sleep(0)

    class Loop:
        def __getattr__(self, name: str) -> Any:
            return sleep if name == "sleep" else getattr(asyncio, name)

    monkeypatch.setattr(module, "asyncio", Loop())
    task = asyncio.create_task(fake.application.renew_leases())
    try:
        while len(fake.headers) < questions:
            await rounds.get()
        while not rounds.empty():
            rounds.get_nowait()
        await rounds.get()
        await rounds.get()
    finally:
        task.cancel()
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("answer", "status", "expires"),
    [
        ({"claims": {"sub": "u7"}, "seconds": 300}, 200, 1540.0),
        ({"claims": {"sub": "u8"}, "seconds": 300}, 200, 0.0),
        ({"claims": {"sub": "u7", "admin": True}, "seconds": 300}, 200, 0.0),
        ({}, 401, 0.0),
        ({}, 403, 0.0),
        ({}, 500, 1300.0),
        (FetchFailed("no answer"), 200, 1300.0),
    ],
)
@gen_test
async def test_lease_is_renewed_or_ends_or_goes_on_to_its_end(monkeypatch, answer, status, expires):
    fake = Fake()
    lease = await fake.application.lease(COOKIE, ["mine"])
    fake.now += 240
    fake.answer, fake.status = answer, status
    await renewed(monkeypatch, fake, 2)
    assert lease.expires == expires
    assert fake.headers[0] == fake.headers[1]


@gen_test
async def test_renewal_does_not_wait_behind_new_clients(monkeypatch):
    fake = Fake()
    lease = await fake.application.lease(COOKIE, ["mine"])
    fake.gate.clear()
    crowd = [asyncio.create_task(fake.application.lease(COOKIE, ())) for _ in range(3 * MAX_QUESTIONS)]
    fake.now += 240
    renewing = asyncio.create_task(renewed(monkeypatch, fake, 2 + MAX_QUESTIONS))
    while len(fake.headers) < 2 + MAX_QUESTIONS:
        await asyncio.sleep(0)
    fake.gate.set()
    await renewing
    assert lease.expires == 1540.0
    await asyncio.gather(*crowd)


@gen_test
async def test_lease_without_a_client_is_not_renewed(monkeypatch):
    fake = Fake()
    await fake.application.lease(COOKIE, ["mine"])
    fake.now += 240
    await renewed(monkeypatch, fake, 1)
    assert len(fake.headers) == 1


@gen_test
async def test_truth_and_one_are_two_claims(monkeypatch):
    fake = Fake({"claims": {"admin": 1}, "seconds": 300})
    lease = await fake.application.lease(COOKIE, ())
    fake.now += 240
    fake.answer = {"claims": {"admin": True}, "seconds": 300}
    await renewed(monkeypatch, fake, 2)
    assert lease.expires == 0.0
