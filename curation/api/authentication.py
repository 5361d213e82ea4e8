"""Who calls, and whether the token's scopes allow it. Roles are for curation/queries/access."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from ninja.security import HttpBearer

from curation.api.problems import Problem
from curation.client_address import client_address
from curation.models import Scope, Token
from curation.services import rate_limits, tokens
from curation.services.rate_limits import Limit

FAILURES = Limit("refused tokens", calls=60, seconds=60)


def identify(request: HttpRequest) -> Token | None:
    """The token of the request, looked up once. Counts the request, or failure, against its limit.

    Raises:
        RateLimited: too many requests with this token, or too many wrong tokens from this address.
    """
    if not hasattr(request, "api_token"):
        request.api_token = _identify(request)  # type: ignore[attr-defined]
    found: Token | None = request.api_token  # type: ignore[attr-defined]
    return found


def _identify(request: HttpRequest) -> Token | None:
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not text:
        return None
    token = tokens.authenticate(text=text.strip())
    if token is None:
        rate_limits.take(limit=FAILURES, identity=client_address(request))
        return None
    per_minute = Limit("requests", calls=settings.API_REQUESTS_PER_MINUTE, seconds=60)
    rate_limits.take(limit=per_minute, identity=str(token.user_id))
    return token


class TokenAuthentication(HttpBearer):
    """A bearer token that has the route's scope."""

    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self.scope = scope

    def __call__(self, request: HttpRequest) -> Any | None:
        token = identify(request)
        if token is None:
            return None
        if self.scope not in token.scopes:
            raise Problem(
                403, f"The token lacks the scope “{self.scope}”; it has: {', '.join(token.scopes)}."
            )
        if self.scope == Scope.RUN:
            starts = Limit("computations", calls=settings.API_STARTS_PER_MINUTE, seconds=60)
            rate_limits.take(limit=starts, identity=str(token.user_id))
        request.user = token.user
        return token

    def authenticate(self, request: HttpRequest, token: str) -> Any | None:
        raise NotImplementedError  # __call__ reads the header itself
