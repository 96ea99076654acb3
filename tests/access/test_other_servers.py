"""Keys and claims of other servers: a guarded server that asks real ones."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.answering import AnsweringServer
from tests.support.guarded import bearer, documents, get
from tests.support.processes import ServerProcess
from tests.support.raw_client import RawClient

STREAMS = """
[streams.mine]
namespace = "guarded.orders"
filter = { owner = "$claims.sub" }
fields = ["total"]

[streams.news]
namespace = "guarded.orders"
public = true
filter = { news = true }
"""

PRIVATE = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("first", "second")}


@pytest.fixture(scope="module")
def two_orders(orders) -> None:
    orders.insert_many([{"_id": 1, "owner": "u7", "total": 5}, {"_id": 2, "owner": "u8", "total": 6}])


# -- keys ------------------------------------------------------------------------------------------


def key_set(*names: str) -> Any:
    keys = [
        {**jwt.algorithms.ECAlgorithm.to_jwk(PRIVATE[name].public_key(), as_dict=True), "kid": name}
        for name in names
    ]
    return {"keys": keys}


def token(name: str, subject: str = "u7") -> str:
    return jwt.encode(
        {"sub": subject, "exp": time.time() + 60}, PRIVATE[name], "ES256", headers={"kid": name}
    )


@pytest.fixture(scope="module")
def keys() -> Iterator[AnsweringServer]:
    with AnsweringServer() as server:
        server.body = key_set("first")
        yield server


@pytest.fixture(scope="module")
def by_keys(start_guarded, keys, two_orders) -> ServerProcess:
    return start_guarded(f'[access]\nalgorithms = ["ES256"]\njwks_url = "{keys.url}keys"\n{STREAMS}')


def test_published_key_lets_in_and_was_fetched_at_the_start(by_keys, keys):
    assert len(keys.asked) == 1
    assert [one["_id"] for one in documents(by_keys, **bearer(token("first")))] == [1]

    async def scenario() -> None:
        client = RawClient(by_keys.port, "/stream/mine", headers=bearer(token("first")))
        with closing(await client.connect()):
            await client.opened()

    asyncio.run(scenario())
    assert len(keys.asked) == 1


def test_unknown_key_does_not_make_it_ask_again_at_once(by_keys, keys):
    for _ in range(5):
        status, problem = get(by_keys, "/stream/mine", **bearer(token("second")))
        assert (status, problem["code"]) == (401, "token-invalid")
    assert len(keys.asked) == 1


def test_keys_that_cannot_be_had_are_a_problem_that_passes(start_guarded, two_orders):
    with AnsweringServer() as keys:
        keys.status = 500
        server = start_guarded(f'[access]\nalgorithms = ["ES256"]\njwks_url = "{keys.url}"\n{STREAMS}')

        async def scenario() -> None:
            client = RawClient(server.port, "/stream/mine", headers=bearer(token("first")))
            with closing(await client.connect()):
                problem = await client.next()
                assert (client.status, problem.event) == (200, "problem")
                assert json.loads(problem.data)["code"] == "not-ready"

        asyncio.run(scenario())
        assert any("jwks_url cannot be fetched: the answer has status 500" in line for line in server.log)
        status, problem = get(server, "/documents/mine", **bearer(token("first")))
        assert (status, problem["code"]) == (503, "not-ready")
        assert len(documents(server, "/documents/news")) == 0


# -- the application -------------------------------------------------------------------------------


class Sessions(AnsweringServer):
    """An application with sessions in a cookie."""

    def __init__(self) -> None:
        super().__init__()
        self.users = {"s7": "u7", "s8": "u8"}
        self.seconds: float = 60
        self.fails = False

    def answer(self, headers: dict[str, str]) -> tuple[int, Any]:
        if self.fails:
            return 500, b"oops"
        session = headers.get("cookie", "").removeprefix("session=")
        if session == "banned":
            return 403, b""
        if session not in self.users:
            return 401, b""
        return 200, {"claims": {"sub": self.users[session]}, "seconds": self.seconds}


@pytest.fixture
def sessions() -> Iterator[Sessions]:
    with Sessions() as application:
        yield application


@pytest.fixture
def by_sessions(start_guarded, sessions, two_orders) -> ServerProcess:
    return start_guarded(
        f'cors_origin = ["https://shop.example"]\n[access]\nauthorize_url = "{sessions.url}brook"\n{STREAMS}'
    )


def cookie(session: str) -> dict[str, str]:
    return {"Cookie": f"session={session}"}


def test_session_of_the_application_is_enough(by_sessions, sessions):
    assert [one["_id"] for one in documents(by_sessions, **cookie("s7"))] == [1]
    assert [one["_id"] for one in documents(by_sessions, **cookie("s8"))] == [2]
    assert sessions.asked[0]["x-brook-stream"] == "mine"
    assert sessions.asked[0]["x-forwarded-for"] == "127.0.0.1"
    assert "authorization" not in sessions.asked[0]
    for session, status in (("unknown", 401), ("banned", 403)):
        assert get(by_sessions, "/stream/mine", **cookie(session))[0] == status


def test_application_is_not_asked_about_nobody_and_not_for_a_foreign_page(by_sessions, sessions):
    assert get(by_sessions, "/stream/mine")[0] == 401
    assert documents(by_sessions, "/documents/news") == []
    assert get(by_sessions, "/stream/mine", Origin="https://evil.example", **cookie("s7"))[0] == 403
    assert sessions.asked == []
    assert get(by_sessions, "/documents/mine", Origin="https://shop.example", **cookie("s7"))[0] == 200


def test_authorization_header_is_passed_on_as_it_is(by_sessions, sessions):
    assert get(by_sessions, "/documents/mine", Authorization="Basic abc")[0] == 401
    assert sessions.asked[0]["authorization"] == "Basic abc"


def test_stream_goes_on_over_renewals_and_ends_with_the_session(by_sessions, sessions, orders):
    sessions.seconds = 3

    async def scenario() -> None:
        client = RawClient(by_sessions.port, "/stream/mine", headers=cookie("s7"))
        with closing(await client.connect()):
            await client.opened()
            async with asyncio.timeout(30):
                while len(sessions.asked) < 4:
                    await asyncio.sleep(0.05)
            orders.insert_one({"_id": 10, "owner": "u7", "total": 7})
            assert json.loads((await client.next()).data) == {"_id": 10, "total": 7}
            del sessions.users["s7"]
            bye = await client.next()
            assert (bye.event, json.loads(bye.data)) == ("bye", {"reason": "token-expired"})
        assert get(by_sessions, "/stream/mine", **cookie("s7"))[0] == 401

    asyncio.run(scenario())
    orders.delete_one({"_id": 10})


def test_other_claims_end_the_stream(by_sessions, sessions):
    sessions.seconds = 2

    async def scenario() -> None:
        client = RawClient(by_sessions.port, "/stream/mine", headers=cookie("s7"))
        with closing(await client.connect()):
            await client.opened()
            sessions.users["s7"] = "u8"
            assert json.loads((await client.next()).data) == {"reason": "token-expired"}

    asyncio.run(scenario())
    assert [one["_id"] for one in documents(by_sessions, **cookie("s7"))] == [2]


def test_failing_application_puts_off_new_clients_and_leaves_the_others(by_sessions, sessions, orders):
    sessions.seconds = 4

    async def scenario() -> None:
        client = RawClient(by_sessions.port, "/stream/mine", headers=cookie("s7"))
        with closing(await client.connect()):
            await client.opened()
            sessions.fails = True
            with closing(
                await RawClient(by_sessions.port, "/stream/mine", headers=cookie("s8")).connect()
            ) as new:
                assert json.loads((await new.next()).data)["code"] == "not-ready"
            orders.insert_one({"_id": 11, "owner": "u7", "total": 8})
            assert json.loads((await client.next()).data)["_id"] == 11
            assert json.loads((await client.next()).data) == {"reason": "token-expired"}

    asyncio.run(scenario())
    orders.delete_one({"_id": 11})
    assert sum("authorize_url fails" in line for line in by_sessions.log) == 1


def test_slow_application_holds_up_nobody_else(by_sessions, sessions):
    sessions.may_answer.clear()

    async def scenario() -> None:
        with ExitStack() as stack:
            waiting = [
                asyncio.create_task(
                    RawClient(by_sessions.port, "/stream/mine", headers=cookie("s7")).connect()
                )
                for _ in range(5)
            ]
            for _ in range(3):
                news = await RawClient(by_sessions.port, "/stream/news").connect()
                stack.enter_context(closing(await news.opened()))
            assert not any(task.done() for task in waiting)
            sessions.may_answer.set()
            for client in await asyncio.gather(*waiting):
                stack.enter_context(closing(await client.opened()))

    asyncio.run(scenario())
