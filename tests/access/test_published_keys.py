"""Keys at `jwks_url`: fetched rarely, kept when that fails."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from brook.access.published_keys import MAX_SECONDS, MIN_SECONDS, PublishedKeys
from brook.access.settings import AccessSettings
from brook.access.tokens import Tokens
from brook.errors import FetchFailed, NotReady, TokenInvalid

gen_test = pytest.mark.gen_test(timeout=30)

PRIVATE = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("a", "b", "c")}


def entry(name: str, **more: Any) -> dict[str, Any]:
    key = jwt.algorithms.ECAlgorithm.to_jwk(PRIVATE[name].public_key(), as_dict=True)
    return {**key, "kid": name, "use": "sig", "alg": "ES256", **more}


def token(name: str, **headers: Any) -> str:
    claims = {"sub": "u7", "exp": int(time.time()) + 60}
    return jwt.encode(claims, PRIVATE[name], "ES256", headers={"kid": name, **headers})


class Server:
    """Answers with a key set, or fails."""

    def __init__(self, *names: str) -> None:
        self.asked = 0
        self.now = 1000.0
        self.answer: Any = {"keys": [entry(name) for name in names]}
        self.keys = PublishedKeys("http://login/keys", self._fetch, lambda: self.now)
        access = AccessSettings(algorithms=("ES256",), jwks_url="http://login/keys")
        self.tokens = Tokens(access, self.keys)

    async def _fetch(self, url: str) -> bytes:
        self.asked += 1
        await asyncio.sleep(0)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()

    async def subject(self, text: str) -> str:
        """As the guard does it."""
        if self.keys.waits_for(text):
            await self.keys.fetch()
        return self.tokens.identity(text).subject


@gen_test
async def test_keys_are_fetched_once_for_many_tokens():
    server = Server("a", "b")
    subjects = await asyncio.gather(*(server.subject(token(name)) for name in "abab"))
    assert (subjects, server.asked) == (["u7"] * 4, 1)
    assert not server.keys.waits_for(token("a"))


@gen_test
async def test_unknown_key_is_asked_for_again_at_a_bounded_rate():
    server = Server("a")
    await server.subject(token("a"))
    server.answer = {"keys": [entry("a"), entry("b")]}
    for _ in range(10):
        with pytest.raises(TokenInvalid, match="kid"):
            await server.subject(token("b"))
    assert server.asked == 1
    server.now += MIN_SECONDS
    assert await server.subject(token("b")) == "u7"
    assert server.asked == 2


@gen_test
async def test_withdrawn_key_is_refused_after_an_hour():
    server = Server("a", "b")
    await server.subject(token("b"))
    server.answer = {"keys": [entry("a")]}
    server.now += MAX_SECONDS
    with pytest.raises(TokenInvalid):
        await server.subject(token("b"))


@gen_test
async def test_known_keys_survive_a_failure(caplog):
    server = Server("a")
    await server.subject(token("a"))
    server.answer = FetchFailed("no answer")
    server.now += MAX_SECONDS
    assert await server.subject(token("a")) == "u7"
    assert "no answer" in caplog.text
    assert not server.keys.waits_for(token("a"))
    server.now += MIN_SECONDS
    assert server.keys.waits_for(token("a"))


@gen_test
async def test_without_any_keys_the_client_is_to_come_again():
    server = Server()
    server.answer = FetchFailed("no answer")
    with pytest.raises(NotReady):
        await server.subject(token("a"))


@gen_test
async def test_first_of_several_that_wait_may_leave():
    server = Server("a")
    first = asyncio.create_task(server.subject(token("a")))
    others = [asyncio.create_task(server.subject(token("a"))) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    assert await asyncio.gather(*others) == ["u7"] * 3
    assert server.asked == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>", b"[]", b"{}", {"keys": {}}, {"keys": []}, {"keys": [1, None, {"kty": "XX"}]},
        {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "a"}]}, {"keys": [entry("a", use="enc")]},
        b"[" * 100_000,
    ],
)  # fmt: skip
@gen_test
async def test_answer_without_usable_keys_is_a_failure(answer, caplog):
    server = Server()
    server.answer = answer
    with pytest.raises(NotReady):
        await server.subject(token("a"))
    assert "jwks_url" in caplog.text


@gen_test
async def test_set_of_one_key_needs_no_key_id():
    server = Server("a")
    assert await server.subject(token("a", kid="")) == "u7"
    server = Server("a", "b")
    with pytest.raises(TokenInvalid):
        await server.subject(token("a", kid=""))


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "\ud800"])
@gen_test
async def test_garbage_asks_nobody(text):
    server = Server("a")
    await server.subject(token("a"))
    server.now += MIN_SECONDS
    with pytest.raises(TokenInvalid):
        await server.subject(text)
    assert server.asked == 1
