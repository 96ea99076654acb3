"""The time for which the server's own certificate is valid: clients refuse it outside of that time.

The only module that imports cryptography.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

from brook.finding import Finding, Level

# Let's Encrypt and its like renew a month before the end: two weeks before it, nobody has.
SOON = datetime.timedelta(days=14)

SUBJECT = "certificate"

_RENEW = "renew it, and send SIGHUP to the server"


def examine(path: str) -> list[Finding]:
    """Return a finding for each certificate of a file that is not valid now, or not for long; else one that
    says how long it is.
    """
    # A late import: the server without TLS needs none of it.
    from cryptography import x509

    try:
        chain = x509.load_pem_x509_certificates(Path(path).read_bytes())
    except (OSError, ValueError):
        return []  # whether OpenSSL can use it is for `Certificate` to say
    times = [(each.not_valid_before_utc, each.not_valid_after_utc) for each in chain]
    now = datetime.datetime.now(datetime.UTC)
    if found := [*_problems(path, times, now)]:
        return found
    end = min(end for _, end in times)
    return [Finding(Level.OK, SUBJECT, f"{path} is valid until {end:%Y-%m-%d}, for {(end - now).days} days")]


def _problems(
    path: str, times: list[tuple[datetime.datetime, datetime.datetime]], now: datetime.datetime
) -> Iterator[Finding]:
    for number, (begin, end) in enumerate(times):
        which = f"the certificate in {path}" if number == 0 else f"the issuer's certificate in {path}"
        if end <= now:
            says = f"{which} expired on {end:%Y-%m-%d}: clients refuse it"
            yield Finding(Level.WARNING, SUBJECT, says, _RENEW)
        elif begin > now:
            says = f"{which} is not valid before {begin:%Y-%m-%d %H:%M} UTC: clients refuse it"
            yield Finding(Level.WARNING, SUBJECT, says, "compare the clock of this machine")
        elif end - now < SOON:
            says = f"{which} expires on {end:%Y-%m-%d}, in {(end - now).days} days"
            yield Finding(Level.WARNING, SUBJECT, says, _RENEW)
