"""The operator's application, which is asked for a client's claims (`authorize_url`).

The browser's own cookie or `Authorization` header is passed on to it, so a session of the application works
with no token at all.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from brook.access.claims import Identity
from brook.admission import Credentials, Lease
from brook.errors import FetchFailed, Forbidden, NotReady, Unauthenticated

log = logging.getLogger(__name__)

Ask = Callable[[str, Mapping[str, str]], Awaitable[tuple[int, bytes]]]
"""Requests a URL with headers, and returns status and body. Raises FetchFailed if there is no answer."""

# Maximum number of requests to the application at once for new clients, and as many for renewals. It has
# other work.
MAX_QUESTIONS: Final = 32

# Maximum number of clients that wait for an answer.
MAX_WAITING: Final = 2000

# Maximum time that a new client waits for its turn. It is then told to retry: otherwise the last of
# them would wait for minutes if the application is slow.
TURN_SECONDS: Final = 10.0

# Maximum of `seconds` in an answer: a day.
MAX_SECONDS: Final = 86_400

# The share of its time after which a lease is renewed.
RENEWED_AT: Final = 0.8

# Time after a failed renewal before the next one.
RETRY_SECONDS: Final = 5.0

# Time between two rounds of renewals.
ROUND_SECONDS: Final = 1.0

_TOO_MANY: Final = "too many clients wait for the application that identifies them; retry"

# The stream names that may be sent in a header. Every configured stream has such a name.
_NAME: Final = re.compile(r"[\x21-\x2b\x2d-\x7e]{1,200}")


class AskedLease(Lease):
    """A lease with everything that is needed to ask again."""

    __slots__ = ("credentials", "due", "identity", "streams")

    def __init__(
        self, identity: Identity, credentials: Credentials, streams: Sequence[str], now: float
    ) -> None:
        super().__init__(identity.expires, identity.subject)
        self.identity = identity
        self.credentials = credentials
        self.streams = streams
        self.extend(identity.expires, now)

    def extend(self, expires: float, now: float) -> None:
        """Set a new end, and the time at which to ask again."""
        self.expires = expires
        self.due = now + RENEWED_AT * (expires - now)


class Application:
    """Asks for a client's claims, and asks again before they expire."""

    def __init__(
        self,
        url: str,
        ask: Ask,
        clock: Callable[[], float] = time.time,
        turn_seconds: float = TURN_SECONDS,
    ) -> None:
        self._url = url
        self._ask = ask
        self._clock = clock
        self._turn_seconds = turn_seconds
        # Weak references: the subscriber holds its lease, and renewals end when it leaves.
        self._leases: weakref.WeakSet[AskedLease] = weakref.WeakSet()
        self._questions = asyncio.Semaphore(MAX_QUESTIONS)
        self._waiting = 0
        self._failing = False

    async def lease(self, credentials: Credentials, streams: Sequence[str]) -> AskedLease:
        """Ask for a client's claims. Raises Unauthenticated, Forbidden, or NotReady if there is no answer."""
        if self._waiting >= MAX_WAITING:
            raise NotReady(_TOO_MANY)
        self._waiting += 1
        try:
            await self._turn()
            try:
                identity = await self._identity(credentials, streams)
            finally:
                self._questions.release()
        except FetchFailed:
            raise NotReady("the application that identifies clients does not answer now; retry") from None
        finally:
            self._waiting -= 1
        lease = AskedLease(identity, credentials, streams, self._clock())
        self._leases.add(lease)
        return lease

    async def _turn(self) -> None:
        """Wait until a question may be asked. Raises NotReady if that takes too long."""
        try:
            async with asyncio.timeout(self._turn_seconds):
                await self._questions.acquire()
        except TimeoutError:
            raise NotReady(_TOO_MANY) from None

    async def renew_leases(self) -> None:
        """Renew each lease before it ends, for ever. Renewals do not wait behind a crowd of new clients: the
        streams of the old ones would end.
        """
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            now = self._clock()
            # A lease that is due before the next round is renewed now: then it might be too late.
            soon = now + ROUND_SECONDS
            due = [lease for lease in self._leases if lease.due <= soon and lease.expires > now]
            for start in range(0, len(due), MAX_QUESTIONS):
                await asyncio.gather(*map(self._renew, due[start : start + MAX_QUESTIONS]))

    async def _renew(self, lease: AskedLease) -> None:
        """Ask again. Different claims, or a refusal, end the lease at once: the client reconnects, and is
        admitted anew. Without an answer, the lease stays valid until it expires.
        """
        try:
            identity = await self._identity(lease.credentials, lease.streams)
        except FetchFailed:
            lease.due = self._clock() + RETRY_SECONDS
            return
        except (Unauthenticated, Forbidden):
            lease.expires = 0.0
            return
        # Compared as JSON: Python takes 1 and true for equal, and a rule does not.
        if json.dumps(identity.claims, sort_keys=True) == json.dumps(lease.identity.claims, sort_keys=True):
            lease.extend(identity.expires, self._clock())
        else:
            lease.expires = 0.0

    async def _identity(self, credentials: Credentials, streams: Sequence[str]) -> Identity:
        headers = {
            "Authorization": credentials.authorization,
            "Cookie": credentials.cookie,
            "X-Brook-Stream": ", ".join(filter(_NAME.fullmatch, streams)),
            "X-Forwarded-For": credentials.address,
        }
        try:
            status, body = await self._ask(
                self._url, {name: value for name, value in headers.items() if value}
            )
            if status == 401:
                raise Unauthenticated("the application does not know this client: log in first")
            if status == 403:
                raise Forbidden("the application does not let this client in")
            if status != 200:
                raise FetchFailed(f"it answered with status {status}")
            identity = _parsed(body, self._clock())
        except FetchFailed as error:
            self._tell(error)
            raise
        self._tell(None)
        return identity

    def _tell(self, error: FetchFailed | None) -> None:
        """Log the first failure and the end of the failures, not each one."""
        if error is not None and not self._failing:
            log.warning("authorize_url fails, and new clients are told to retry: %s", error)
        elif error is None and self._failing:
            log.info("authorize_url answers again")
        self._failing = error is not None


def _parsed(body: bytes, now: float) -> Identity:
    try:
        answer: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise FetchFailed("its answer is not JSON") from None
    claims = answer.get("claims") if isinstance(answer, dict) else None
    seconds = answer.get("seconds") if isinstance(answer, dict) else None
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not isinstance(claims, dict) or seconds is None or not is_number or not 1 <= seconds <= MAX_SECONDS:
        raise FetchFailed(
            f'its answer is not {{"claims": {{...}}, "seconds": N}} with N from 1 to {MAX_SECONDS:,}'
        )
    return Identity(claims, now + seconds)
