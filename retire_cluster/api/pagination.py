"""Pages of a list: by number, or by cursor at a cost that does not grow with the depth.

A cursor names the last row seen (its time and its id, so ties are in order too): rows that arrive meanwhile
neither repeat nor hide any. It holds no filter; the client repeats its filters with every page.

Numbered pages come with a count. It is exact for lists that people page through; see decision 10.
"""

import base64
import binascii
import struct
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Model, Q, QuerySet, UUIDField
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response

from retire_cluster.api.envelope import Page
from retire_cluster.api.errors import FieldError, invalid
from retire_cluster.api.parameters import positive, single
from retire_cluster.api.remembered import Remembered

DEFAULT_PAGE_SIZE = 20
MAX_PAGE_SIZE = 100
MAX_COUNTED = 10_000  # rows
SURELY_LARGE = 2 * MAX_COUNTED  # so many do not become few while a total is kept
TOTALS_KEPT_S = 2.0
totals: Remembered[int] = Remembered(TOTALS_KEPT_S)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR = struct.Struct(">q16s")  # microseconds since the epoch, id


class EnvelopePagination(BasePagination):
    """`page` and `page_size`; with `cursor` (empty for the first page) keyset paging where a view has a key.

    The queryset must be ordered newest first. A view names the time field of its key in `cursor_field`.
    """

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        size = min(positive(request, "page_size", DEFAULT_PAGE_SIZE), MAX_PAGE_SIZE)
        field = getattr(view, "cursor_field", None)
        if field and "cursor" in request.query_params:
            if "page" in request.query_params:
                raise invalid(FieldError("cursor", "cannot be combined with page"))
            return self._after_cursor(queryset, single(request, "cursor"), field, size)
        return self._numbered(queryset, positive(request, "page", 1), size)

    def get_paginated_response(self, data: Any) -> Response:
        return Response(Page(list(data), self.pagination))

    def get_results(self, data: Any) -> list[Any]:
        """What the browsable API takes for the rows of an answer."""
        return data.items if isinstance(data, Page) else []

    def to_html(self) -> str:
        return ""

    def _numbered(self, queryset: QuerySet[Any], page: int, size: int) -> list[Any]:
        total = count(queryset)
        pages = -(-total // size)
        self.pagination: dict[str, Any] = {
            "page": page,
            "page_size": size,
            "total_items": total,
            "total_pages": pages,
            "has_next": page < pages,
            "has_previous": page > 1 and pages > 0,
        }
        return list(queryset[(page - 1) * size : page * size]) if page <= pages else []

    def _after_cursor(self, queryset: QuerySet[Any], cursor: str, field: str, size: int) -> list[Any]:
        rows, following = after_cursor(queryset, cursor, field, size)
        self.pagination = {
            "page_size": size,
            "has_next": following is not None,
            "next_cursor": following,
        }
        return rows


def after_cursor(queryset: QuerySet[Any], cursor: str, field: str, size: int) -> tuple[list[Any], str | None]:
    """The rows behind a cursor, the first ones with an empty one, and the next cursor. Raises the API's 400."""
    if cursor:
        moment, row_id = decode_cursor(cursor)
        queryset = queryset.filter(_beyond(field, moment, _key_of(queryset.model, row_id)))
    rows = list(queryset[: size + 1])
    more, rows = len(rows) > size, rows[:size]
    return rows, _cursor_of(rows[-1], field) if more else None


def count(queryset: QuerySet[Any]) -> int:
    """How many rows there are: exact up to MAX_COUNTED, beyond it some seconds old on a large table.

    Nobody misses a row among ten thousand, but counting a million takes longer than showing the page.
    """
    question = str(queryset.order_by().query)
    known = totals.known(question)
    if known is not None and known > SURELY_LARGE:
        return known
    # In the list's order: otherwise Postgres may prefer to read the table.
    counted = queryset.values("pk")[: MAX_COUNTED + 1].count()
    if counted <= MAX_COUNTED:
        return counted
    return max(counted, totals.get(question, queryset.count))


def encode_cursor(moment: datetime, row_id: uuid.UUID) -> str:
    """The position of a row, as text for a query string."""
    microseconds = (moment - _EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(_CURSOR.pack(microseconds, row_id.bytes)).rstrip(b"=").decode()


def decode_cursor(text: str) -> tuple[datetime, uuid.UUID]:
    """The position in a cursor. Raises the API's 400."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        microseconds, row_id = _CURSOR.unpack(raw)
        return _EPOCH + timedelta(microseconds=microseconds), uuid.UUID(bytes=row_id)
    except (ValueError, binascii.Error, struct.error, OverflowError):
        raise invalid(FieldError("cursor", "is not one this API gave; start with an empty one")) from None


def _cursor_of(row: Model | Mapping[str, Any], field: str) -> str:
    """The position of an object, or of a row of columns with its id."""
    key, moment = (row["id"], row[field]) if isinstance(row, Mapping) else (row.pk, getattr(row, field))
    return encode_cursor(moment, key if isinstance(key, uuid.UUID) else uuid.UUID(int=key))


def _key_of(model: type[Model], row_id: uuid.UUID) -> uuid.UUID | int:
    """The id in the type of the model's key: a UUID, or the number it stands for."""
    return row_id if isinstance(model._meta.pk, UUIDField) else row_id.int


def _beyond(field: str, moment: datetime, row_id: uuid.UUID | int) -> Q:
    # The first condition is what lets the index on (time, id) start at the right place.
    older = Q(**{f"{field}__lt": moment}) | Q(**{field: moment, "pk__lt": row_id})
    return Q(**{f"{field}__lte": moment}) & older
