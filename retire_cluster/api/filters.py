"""Query filters: unknown parameters are ignored, invalid values of known ones are 400 and say which."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from django.db.models import QuerySet
from django.utils.dateparse import parse_date, parse_datetime
from rest_framework.filters import BaseFilterBackend
from rest_framework.request import Request
from rest_framework.views import APIView

from retire_cluster.api.errors import FieldError, invalid

T = TypeVar("T")
Apply = Callable[[Any, Sequence[T]], Any]

MAX_VALUES = 100  # of one parameter


@dataclass(frozen=True, slots=True)
class QueryFilter(Generic[T]):
    """One query parameter: repeated, comma-separated, or both.

    `check` turns a value's text into what `apply` narrows the queryset by; it raises ValueError saying what the
    value must be. Without a value nothing is applied.
    """

    name: str
    check: Callable[[str], T]
    apply: Apply[T]

    def narrow(self, queryset: Any, request: Request) -> Any:
        """The queryset, filtered if the request asks for it. Raises ValueError."""
        texts = request.query_params.getlist(self.name)
        values = [part.strip() for text in texts for part in text.split(",") if part.strip()]
        if len(values) > MAX_VALUES:
            raise ValueError(f"may have {MAX_VALUES} values")
        if any("\x00" in value for value in values):
            raise ValueError("must not contain the NUL character")  # Postgres cannot even compare with it
        return self.apply(queryset, [self.check(value) for value in values]) if values else queryset


class StrictFilterBackend(BaseFilterBackend):
    """Applies the view's `filters`, a sequence of QueryFilter."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: APIView) -> QuerySet[Any]:
        errors: list[FieldError] = []
        filters: Sequence[QueryFilter[Any]] = getattr(view, "filters", ())
        for query_filter in filters:
            try:
                queryset = query_filter.narrow(queryset, request)
            except ValueError as error:
                errors.append(FieldError(query_filter.name, str(error)))
        if errors:
            raise invalid(*errors)
        return queryset


def any_of(field: str) -> Apply[Any]:
    """Rows whose field has one of the values."""
    return lambda queryset, values: queryset.filter(**{f"{field}__in": values})


def compared(lookup: str) -> Apply[Any]:
    """Rows that satisfy a Django lookup; of several values the last counts."""
    return lambda queryset, values: queryset.filter(**{lookup: values[-1]})


def one_of(choices: Iterable[str]) -> Callable[[str], str]:
    """A check: one of these words, in any case."""
    words = [str(choice) for choice in choices]

    def check(value: str) -> str:
        if value.lower() not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return value.lower()

    return check


def matching(pattern: str, meaning: str) -> Callable[[str], str]:
    """A check: the whole value matches."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"must be {meaning}")
        return value

    return check


_SPACE_FOR_PLUS = re.compile(r" (?=\d\d:\d\d$)")


def moment(text: str) -> datetime:
    """A check: RFC 3339 or a date, UTC without an offset. A `+` that the URL turned into a space is taken back."""
    try:
        value = parse_datetime(_SPACE_FOR_PLUS.sub("+", text) if "T" in text else text)
        day = parse_date(text) if value is None else None
        if day is not None:
            value = datetime(day.year, day.month, day.day, tzinfo=UTC)
        if value is not None:
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        pass  # it has the form of a moment but names none: the same answer as for any other text
    raise ValueError("must be a moment such as 2023-01-01T12:00:00Z")
