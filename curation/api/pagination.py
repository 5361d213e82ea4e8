"""Cursor pagination by key: stable while rows are added, and no page is slower than the first."""

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from django.db.models import Model, Q, QuerySet
from ninja import Schema
from pydantic import ConfigDict, Field

from curation.api.problems import Problem

T = TypeVar("T")
MAX_LIMIT = 200


class Input(Schema):
    """A body. Unknown fields are refused: a misspelt one would otherwise be ignored in silence."""

    model_config = ConfigDict(extra="forbid")


class PageQuery(Schema):
    limit: int = Field(50, ge=1, le=MAX_LIMIT, description="How many items a page has.")
    cursor: str = Field(
        "",
        max_length=300,
        description="`next` of the page before; leave it out for the first page.",
    )


class Page(Schema, Generic[T]):
    items: list[T]
    next: str | None = Field(None, description="The cursor of the next page; null on the last one.")


def newest_first(rows: QuerySet[Any], page: PageQuery) -> dict[str, Any]:
    """A page of rows that have `created_at` and `id`, the newest first."""
    rows = rows.order_by("-created_at", "-id")
    if page.cursor:
        moment, key = decode(page.cursor, str, str)
        try:
            at, last = datetime.fromisoformat(moment), UUID(key)
        except ValueError:
            raise _unknown_cursor() from None
        if at.tzinfo is None:
            raise _unknown_cursor()
        rows = rows.filter(Q(created_at__lt=at) | Q(created_at=at, id__lt=last))
    found = list(rows[: page.limit + 1])
    return _page(found, page.limit, lambda row: [row.created_at.isoformat(), str(row.pk)])


def by_number(rows: QuerySet[Any], page: PageQuery, *, descending: bool) -> dict[str, Any]:
    """A page of rows in the order of their whole-number key."""
    rows = rows.order_by("-pk" if descending else "pk")
    if page.cursor:
        (last,) = decode(page.cursor, int)
        if not 0 <= last < 2**63:
            raise _unknown_cursor()
        rows = rows.filter(pk__lt=last) if descending else rows.filter(pk__gt=last)
    return _page(list(rows[: page.limit + 1]), page.limit, lambda row: [row.pk])


def start_of(page: PageQuery) -> int:
    """The offset that a cursor of immutable rows stands for."""
    if not page.cursor:
        return 0
    (start,) = decode(page.cursor, int)
    if not 0 <= start < 2**53:
        raise _unknown_cursor()
    return start


def offset_page(items: Sequence[Any], page: PageQuery, total: int) -> dict[str, Any]:
    """A page of immutable rows, whose cursor is the offset of the next one."""
    end = start_of(page) + len(items)
    return {"items": list(items), "next": encode([end]) if items and end < total else None}


def encode(values: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def decode(cursor: str, *kinds: type) -> list[Any]:
    """The values of a cursor. Raises Problem 422 unless they are of these kinds."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        values = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        raise _unknown_cursor() from None
    if not isinstance(values, list) or [type(value) for value in values] != list(kinds):
        raise _unknown_cursor()
    return values


def _page(found: list[Model], limit: int, key: Any) -> dict[str, Any]:
    more = len(found) > limit
    items = found[:limit]
    return {"items": items, "next": encode(key(items[-1])) if more else None}


def _unknown_cursor() -> Problem:
    return Problem(422, "This cursor was not given out by this API.")


Name = Annotated[str, Field(min_length=1, max_length=120, pattern=r"\S", examples=["reviews"])]
