"""The body of `POST /stream`, parsed into a bundle. `docs/protocol.md`, "Bundles", has its shape."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from brook.canonical import tag
from brook.errors import BadRequest, ClientError, InvalidFilter, InvalidParameter
from brook.subscription import Bundle, Format, Mode, Subscription

MAX_SUBSCRIPTIONS = 32
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

DEFAULT = "default"
"""The name of the stream at `/stream`, where one is needed."""

Make = Callable[[str | None, Mapping[str, Sequence[str]]], Subscription]
"""Makes a subscription of a stream's name and of query parameters. Raises ClientError."""


@dataclass(frozen=True, slots=True)
class BundleRequest:
    """A valid body."""

    since: str | None
    bundle: Bundle
    tags: Mapping[str, str]
    """The tag of each of the client's names."""
    fresh: frozenset[str]
    """The tags of subscriptions that begin with a snapshot, or now, instead of at `since`."""


def parse(body: bytes, make: Make) -> BundleRequest:
    """Parse a body. Raises ClientError; `at` names the subscription at fault."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}"[:200]) from None
    if not isinstance(request, dict) or not request.keys() <= {"since", "subscriptions"}:
        raise BadRequest('the body must be a JSON object of "subscriptions" and, if wanted, "since"')
    since, wanted = request.get("since"), request.get("subscriptions")
    if since is not None and not isinstance(since, str):
        raise InvalidParameter("since takes a string: an id that a stream gave, a time, or now")
    if not isinstance(wanted, dict) or not 1 <= len(wanted) <= MAX_SUBSCRIPTIONS:
        raise BadRequest(f'"subscriptions" must be an object of 1 to {MAX_SUBSCRIPTIONS} named subscriptions')
    parts: dict[str, Subscription] = {}
    tags, fresh = {}, set()
    for name, one in wanted.items():
        if not _NAME.fullmatch(name):
            raise BadRequest(f"the name {name[:70]!r} does not consist of 1 to 64 letters, digits, _ and -")
        try:
            part, is_fresh = _subscription(one, make)
        except RecursionError:
            raise BadRequest(f"subscriptions.{name} is nested too deeply") from None
        except ClientError as error:
            error.at = f"subscriptions.{name}" + (".filter" if isinstance(error, InvalidFilter) else "")
            raise
        tags[name] = part.tag
        if is_fresh:
            fresh.add(part.tag)
        known = parts.get(part.tag)
        parts[part.tag] = part if known is None else replace(part, progress=part.progress or known.progress)
    return BundleRequest(since, Bundle(tuple(parts[tag] for tag in sorted(parts))), tags, frozenset(fresh))


def named_streams(body: bytes) -> list[str]:
    """Return the names of the streams in a body, sorted. Malformed subscriptions are skipped."""
    try:
        wanted = json.loads(body)["subscriptions"].values()
        names = {one.get("stream", DEFAULT) for one in wanted if isinstance(one, dict)}
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return []
    return sorted(name for name in names if isinstance(name, str))


def opened(tags: Mapping[str, str]) -> str:
    """The data of the event `opened`."""
    return json.dumps(tags, separators=(",", ":"))


def _subscription(one: Any, make: Make) -> tuple[Subscription, bool]:
    """Return a subscription with its tag, and True if it does not begin at `since`."""
    if not isinstance(one, dict):
        raise BadRequest("a subscription must be an object of parameters")
    parameters = dict(one)
    stream = parameters.pop("stream", None)
    if stream is not None and not isinstance(stream, str):
        raise InvalidParameter("stream takes the name of a stream, as in /stream/{name}")
    if "checkpoints" in parameters:
        raise InvalidParameter("checkpoints does not work in a bundle, which ends each batch with a position")
    is_fresh = parameters.pop("snapshot", False)
    if is_fresh not in (True, False):
        raise InvalidParameter("snapshot takes true or false")
    part = make(stream, {name: _texts(name, value) for name, value in parameters.items()})
    if part.mode is Mode.CHANGES and part.format is not Format.ENVELOPE:
        raise InvalidParameter('mode=changes needs "format":"envelope" in a bundle')
    return replace(part, tag=tag(part.core)), bool(is_fresh)


def _texts(name: str, value: Any) -> list[str]:
    """The values of a parameter as a query has them."""
    if name in ("filter", "sort"):
        return [value if isinstance(value, str) else json.dumps(value)]
    if isinstance(value, list):
        if not value:
            raise InvalidParameter(f"{name[:50]} is an empty list; leave it out to select everything")
        texts = [_text(name, each) for each in value]
        return texts if name in ("ns", "id") else [",".join(texts)]
    return [_text(name, value)]


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, str | int):
        return str(value)
    raise InvalidParameter(f"{name[:50]} takes a string, a number or a list of them")
