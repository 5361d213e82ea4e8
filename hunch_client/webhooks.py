"""Checking that a webhook message comes from your Hunch site and is fresh."""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping

TOLERANCE_SECONDS = 300


def verify_webhook(
    secret: str, headers: Mapping[str, str], body: bytes, *, now: float | None = None
) -> bool:
    """True if the message was signed with the secret at most five minutes ago.

    The signature is the one of the Standard Webhooks specification.
    """
    values = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, timestamp = values["webhook-id"], values["webhook-timestamp"]
        age = (time.time() if now is None else now) - int(timestamp)
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (KeyError, ValueError, binascii.Error):
        return False
    signed = f"{message_id}.{timestamp}.".encode() + body
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    given = values.get("webhook-signature", "").split(" ")
    is_right = any(
        hmac.compare_digest(f"v1,{expected}".encode(), one.encode(errors="replace"))
        for one in given
    )
    return is_right and abs(age) <= TOLERANCE_SECONDS
