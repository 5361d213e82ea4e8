"""Idempotency keys: a call, sent twice or in parallel, makes one thing, with one answer."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import OperationalError, connection, transaction
from django.utils import timezone

from curation.models import IdempotentRequest

KEPT_FOR = timedelta(days=7)
WAIT_SECONDS = 20


class KeyReused(Exception):
    """The key was sent before with another request."""


class KeyInUse(Exception):
    """A request with this key is still being worked on."""


@dataclass(frozen=True)
class Answer:
    """What a creating call answered, enough to answer the same again."""

    status: int
    content_type: str
    body: bytes
    location: str = ""


def fingerprint(*parts: bytes | str) -> str:
    """SHA-256 over the parts, each with its length, so that no two lists of parts run together."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode(errors="surrogatepass") if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "big"))
        digest.update(content)
    return digest.hexdigest()


def once(
    *, user: Any, key: str, fingerprint: str, work: Callable[[], Answer]
) -> tuple[Answer, bool]:
    """(answer, replayed): do `work` if the key is new, otherwise give the first answer again.

    The row of the key and whatever `work` writes commit together. A parallel call with the same
    key waits in the database for the first to end. An answer of 400 or more is not remembered and
    undoes what `work` wrote, so that the call can be sent again.

    Raises:
        KeyReused: the key was used for another request.
        KeyInUse: the first call did not end within the wait.
    """
    IdempotentRequest.objects.filter(
        user=user, key=key, created_at__lt=timezone.now() - KEPT_FOR
    ).delete()
    with transaction.atomic():
        row, is_new = _insert(user, key, fingerprint)
        if not is_new:
            if row.fingerprint != fingerprint:
                raise KeyReused
            assert row.status is not None, "the row and its answer commit together"
            return Answer(row.status, row.content_type, bytes(row.body), row.location), True
        answer = work()
        if answer.status >= 400:
            transaction.set_rollback(True)
            return answer, False
        IdempotentRequest.objects.filter(pk=row.pk).update(
            status=answer.status,
            content_type=answer.content_type,
            body=answer.body,
            location=answer.location,
        )
        return answer, False


def _insert(user: Any, key: str, fingerprint: str) -> tuple[IdempotentRequest, bool]:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'")
            row, is_new = IdempotentRequest.objects.get_or_create(
                user=user, key=key, defaults={"fingerprint": fingerprint}
            )
            cursor.execute("SET LOCAL lock_timeout = DEFAULT")
            return row, is_new
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", "") == "55P03":  # lock_not_available
            raise KeyInUse from error
        raise


def forget_old() -> int:
    """Delete keys older than `KEPT_FOR`; for the periodic clean-up."""
    deleted, _ = IdempotentRequest.objects.filter(created_at__lt=timezone.now() - KEPT_FOR).delete()
    return deleted
