"""Tokens: made once, shown once, checked on every API request, revoked at once."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from curation.models import Scope, Token
from curation.services import audit

MARK = "hunch"
MAX_TOKENS_PER_USER = 100
LAST_USE_EVERY = timedelta(minutes=1)


@transaction.atomic
def create_token(
    *,
    user: Any,
    name: str,
    scopes: Iterable[str] = (Scope.READ,),
    expires_at: datetime | None = None,
) -> tuple[Token, str]:
    """The token and its secret text `hunch_PREFIX_SECRET`, which cannot be shown again.

    Raises:
        ValidationError: an unknown scope, an expiry in the past, or too many tokens.
    """
    wanted = [scope for scope in Scope.values if scope in set(scopes)]
    if not wanted or set(scopes) - set(Scope.values):
        raise ValidationError({"scopes": f"Choose among {', '.join(Scope.values)}."})
    if expires_at is not None and expires_at <= timezone.now():
        raise ValidationError({"expires_at": "The expiry lies in the past."})
    get_user_model()._default_manager.select_for_update().get(pk=user.pk)
    if user.tokens.filter(revoked_at=None).count() >= MAX_TOKENS_PER_USER:
        raise ValidationError(f"Revoke a token first: {MAX_TOKENS_PER_USER} are in use.")
    secret = secrets.token_urlsafe(32)
    token = Token(
        user=user,
        name=name.strip(),
        prefix=secrets.token_hex(6),
        secret_sha256=_hash(secret),
        scopes=wanted,
        expires_at=expires_at,
    )
    token.full_clean()
    token.save()
    audit.record(action="token created", actor=user, target=token, name=token.name, scopes=wanted)
    return token, f"{MARK}_{token.prefix}_{secret}"


def authenticate(*, text: str) -> Token | None:
    """The live token with this text, or None. Notes its use, at most once a minute."""
    mark, _, rest = text.partition("_")
    prefix, _, secret = rest.partition("_")
    if mark != MARK or not prefix or not prefix.isascii() or len(prefix) > 16 or not secret:
        return None
    token = Token.objects.select_related("user").filter(prefix=prefix).first()
    expected = token.secret_sha256 if token else "0" * 64
    right = hmac.compare_digest(expected, _hash(secret))
    if token is None or not right or not token.is_active or not token.user.is_active:
        return None
    now = timezone.now()
    if token.last_used_at is None or now - token.last_used_at > LAST_USE_EVERY:
        Token.objects.filter(
            Q(last_used_at=None) | Q(last_used_at__lt=now - LAST_USE_EVERY), pk=token.pk
        ).update(last_used_at=now)
    return token


@transaction.atomic
def revoke_token(*, token: Token, by: Any) -> None:
    """End a token; the next request with it is refused. Revoking twice changes nothing."""
    if Token.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now()):
        audit.record(action="token revoked", actor=by, target=token, name=token.name)


def _hash(secret: str) -> str:
    """A plain hash suffices: the secret is 256 random bits, not a password that can be guessed."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
