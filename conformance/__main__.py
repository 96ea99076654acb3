"""`python -m conformance http://HOST:PORT`: a line for each rule.

It exits with 1 if a rule is broken, and with 2 if none can be checked.
"""

from __future__ import annotations

import argparse
import http.client
import sys
from collections.abc import Sequence

from conformance import access, bundles, changes, framing, live, problems, resume
from conformance.rule import Breach, Rule, Subject
from conformance.stream import Silence
from conformance.target import Target
from conformance.writer import Writer

RULES: tuple[Rule, ...] = (
    *framing.RULES, *problems.RULES, *access.RULES, *bundles.RULES, *changes.RULES, *resume.RULES, *live.RULES
)  # fmt: skip


class Unusable(Exception):
    """Nothing can be checked. The message says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    try:
        subject = prepare(options)
    except Unusable as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    try:
        rules = [rule for rule in RULES if not options.rule or rule.name in options.rule]
        broken = sum(not report(rule, subject) for rule in rules)
    finally:
        if subject.writer is not None:
            subject.writer.close()
    checked = sum(subject.has(rule.needs) for rule in rules)
    print(f"{checked} rules checked, {broken} broken, {len(rules) - checked} left out")
    return 1 if broken else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m conformance", description="Checks a server.")
    parser.add_argument("address", help="http://HOST:PORT of the server, or of a proxy in front of it")
    parser.add_argument(
        "--collection", default="", help="the stream to check; by default the first in /streams"
    )
    parser.add_argument(
        "--mongo", metavar="URI", help="write test documents through this MongoDB, and remove them"
    )
    parser.add_argument("--token", default="", help="sent as Authorization: Bearer")
    parser.add_argument(
        "--keep-alive-seconds", type=float, default=20, help="how long a stream may be silent"
    )
    parser.add_argument(
        "--timeout-seconds", type=float, default=10, help="how long to wait for an answer or event"
    )
    names = [rule.name for rule in RULES]
    parser.add_argument(
        "--rule", action="append", choices=names, metavar="NAME", help="only this one; repeatable"
    )
    return parser.parse_args(arguments)


def prepare(options: argparse.Namespace) -> Subject:
    """Find a collection and connect. Raises Unusable."""
    if not options.address.startswith(("http://", "https://")):
        raise Unusable(f"{options.address!r} is no address; it begins with http:// or https://")
    target = Target(options.address, options.token, options.timeout_seconds)
    try:
        listed = target.ask("GET", "/streams").json()
    except (OSError, http.client.HTTPException) as error:
        raise Unusable(f"{options.address} does not answer: {error}") from None
    streams = listed.get("streams", []) if isinstance(listed, dict) else []
    known = {one["name"]: one["collection"] for one in streams if one.get("collection")}
    collection = options.collection or next(iter(known), "")
    writer = None
    if options.mongo:
        if collection not in known:
            raise Unusable(f"/streams does not list {collection or 'a collection'}: nothing to write to")
        try:
            writer = Writer.connect(options.mongo, known[collection])
        except Exception as error:
            raise Unusable(f"--mongo: {str(error).partition(', Timeout')[0]}") from None
    return Subject(target, collection, writer, options.keep_alive_seconds)


def report(rule: Rule, subject: Subject) -> bool:
    """Check a rule and print its line. False if it is broken."""
    if not subject.has(rule.needs):
        print(f"-       {rule.name:18} {rule.promise} (left out: {rule.needs.value})", flush=True)
        return True
    try:
        rule.check(subject)
    except (Breach, Silence) as breach:
        said = str(breach)
    except (OSError, http.client.HTTPException) as error:
        said = f"the connection failed: {error!r}"
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        said = f"an answer has not the documented shape: {error!r}"
    else:
        print(f"ok      {rule.name:18} {rule.promise}", flush=True)
        return True
    print(f"BREACH  {rule.name:18} {rule.promise}: {said}", flush=True)
    return False


if __name__ == "__main__":
    sys.exit(main())
