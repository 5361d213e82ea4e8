"""Attempts to sign in: counted before the password is looked at, so that the limits hold in
parallel.

An attempt counts against its address and against its account. Someone who guesses could thus keep
the owner of the account out; but a browser that has signed in to the account before holds a signed
cookie and has a limit of its own ("device cookies", OWASP). What succeeds is given back.
"""

import hashlib
import secrets
from dataclasses import dataclass

from django.core import signing

from curation.services import rate_limits
from curation.services.rate_limits import Limit

ADDRESS = Limit("attempts to sign in from one address", calls=60, seconds=900)
ACCOUNT = Limit("attempts to sign in to one account", calls=10, seconds=900)
DEVICE = Limit("attempts to sign in from one browser", calls=10, seconds=900)
PASSWORD = Limit("attempts to change one password", calls=10, seconds=900)

DEVICE_COOKIE = "hunch_browser"
DEVICE_COOKIE_SECONDS = 365 * 86_400
SALT = "curation.services.sign_in"


@dataclass(frozen=True)
class Attempt:
    """One attempt that was let through, with what it was counted against."""

    counted: tuple[tuple[Limit, str], ...]


def begin(*, name: str, address: str, device: str = "") -> Attempt:
    """Count an attempt to sign in as `name`; `device` is the browser's cookie, if it sent one.

    Raises:
        RateLimited: too many attempts; the password must not be looked at.
        redis.RedisError: the limits cannot be asked; nobody is let through unlimited.
    """
    account = _digest(name)
    known = _known_device(device, account)
    counted = ((ADDRESS, address), (DEVICE, known) if known else (ACCOUNT, account))
    for limit, identity in counted:
        rate_limits.take(limit=limit, identity=identity, fail_open=False)
    return Attempt(counted)


def succeeded(*, attempt: Attempt, name: str) -> str:
    """Give the attempt back; returns the cookie by which this browser is known from now on."""
    for limit, identity in attempt.counted:
        rate_limits.give_back(limit=limit, identity=identity)
    return signing.dumps([_digest(name), secrets.token_urlsafe(16)], salt=SALT)


def _known_device(cookie: str, account: str) -> str:
    """The identity of a browser that has signed in to this account before, or nothing."""
    try:
        signed_for, device = signing.loads(cookie, salt=SALT, max_age=DEVICE_COOKIE_SECONDS)
    except (signing.BadSignature, ValueError, TypeError):
        return ""
    return str(device) if signed_for == account else ""


def _digest(name: str) -> str:
    """Names that differ in case alone share a limit; no name stands in Valkey in clear."""
    return hashlib.sha256(name.strip().casefold().encode()).hexdigest()
