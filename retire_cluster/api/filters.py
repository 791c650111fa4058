"""Query parameters of lists, as django-filter's filters, and strict: of one value, or of several.

Several are written by repeating the parameter, with commas, or both; one that takes one value may stand once.
"""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.utils.dateparse import parse_date, parse_datetime
from django_filters import Filter
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.request import Request
from rest_framework.views import APIView

from retire_cluster.api import parameters
from retire_cluster.api.errors import FieldError, invalid

Check = Callable[[str], Any]


class _TextsWidget(forms.TextInput):
    """One query parameter as often as it was sent."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[str]:
        return list(data.getlist(name)) if hasattr(data, "getlist") else [data.get(name) or ""]

    def format_value(self, value: Any) -> str | None:
        return ",".join(value) if isinstance(value, (list, tuple)) else super().format_value(value)


class _ValuesField(forms.Field):
    """The values of a parameter, each checked."""

    widget = _TextsWidget

    def __init__(self, *, check: Check, once: bool, **options: Any) -> None:
        super().__init__(**options)
        self._check = check
        self._once = once

    def clean(self, value: Any) -> list[Any]:
        texts: list[str] = value or []
        if (reason := parameters.problem(texts, once=self._once)) is not None:
            raise forms.ValidationError(reason)
        try:
            return [self._check(part) for part in parameters.values(texts, once=self._once)]
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None


class Values(Filter):  # type: ignore[misc]  # django-filter has no types
    """Rows whose field has one of the values; with another `lookup`, rows that satisfy it with the only value.

    `check` turns a value's text into what is looked up; it raises ValueError saying what the value must be.
    `words` are the values there are, where they can be listed. With `once` it takes a single value.
    """

    field_class = _ValuesField

    def __init__(
        self,
        *,
        check: Check,
        words: Iterable[str] = (),
        lookup: str = "in",
        once: bool = False,
        **options: Any,
    ) -> None:
        self.words = [str(word) for word in words]
        self.once = once or lookup != "in"
        super().__init__(lookup_expr=lookup, check=check, once=self.once, required=False, **options)

    def filter(self, queryset: QuerySet[Any], value: list[Any] | None) -> QuerySet[Any]:
        if not value:
            return queryset
        wanted = value if self.lookup_expr == "in" else value[0]
        return queryset.filter(**{f"{self.field_name}__{self.lookup_expr}": wanted})


def words(choices: Iterable[str], **options: Any) -> Values:
    """A filter whose values are some words, in any case."""
    known = [str(choice) for choice in choices]
    return Values(check=one_of(known), words=known, **options)


class StrictFilterBackend(DjangoFilterBackend):  # type: ignore[misc]  # django-filter has no types
    """Applies the view's `filterset_class`: unknown parameters are ignored, invalid values are the API's 400."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: APIView) -> QuerySet[Any]:
        known = self.get_filterset_class(view, queryset)
        # Without a parameter of its own it changes nothing, and its form takes as long as a page's rows.
        if known is None or known.base_filters.keys().isdisjoint(request.query_params):
            return queryset
        filterset = self.get_filterset(request, queryset, view)
        if not filterset.is_valid():
            raise invalid(
                *(
                    FieldError(name, str(message))
                    for name, messages in filterset.form.errors.items()
                    for message in messages
                )
            )
        found: QuerySet[Any] = filterset.qs
        return found


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
