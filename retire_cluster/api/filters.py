"""Query filters: unknown parameters are ignored, invalid values of known ones are 400 and say which."""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import django_filters
from django import forms
from django.db.models import QuerySet
from django.forms.utils import ErrorDict
from django.utils.dateparse import parse_date, parse_datetime
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.request import Request

from retire_cluster.api.errors import FieldError, invalid

MAX_VALUES = 100  # of one parameter


class StrictFilterBackend(DjangoFilterBackend):
    """django-filter's backend with the API's own 400."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        filterset = self.get_filterset(request, queryset, view)
        if filterset is None:
            return queryset
        if not filterset.is_valid():
            raise invalid(*_field_errors(filterset.errors))
        filtered: QuerySet[Any] = filterset.qs
        return filtered


def _field_errors(errors: ErrorDict) -> Iterable[FieldError]:
    return [FieldError(name, str(message)) for name, messages in errors.items() for message in messages]


class _ListWidget(forms.Widget):
    """Reads a parameter that is repeated, comma-separated, or both."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[str]:
        values = data.getlist(name) if hasattr(data, "getlist") else [data.get(name, "")]
        return [part.strip() for value in values for part in value.split(",") if part.strip()]


class _ListField(forms.Field):
    widget = _ListWidget

    def __init__(self, *args: Any, check: Callable[[str], str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._check = check

    def clean(self, value: list[str]) -> list[str]:
        if len(value) > MAX_VALUES:
            raise forms.ValidationError(f"may have {MAX_VALUES} values")
        return [self._check(item) for item in value]


class ListFilter(django_filters.Filter):
    """Several values, of which a row must have one; a `method` may decide otherwise.

    `check` returns a value in its stored form, or raises ValueError saying what it must be.
    """

    field_class = _ListField

    def __init__(self, *args: Any, check: Callable[[str], str], **kwargs: Any) -> None:
        def checked(value: str) -> str:
            try:
                return check(value)
            except ValueError as error:
                raise forms.ValidationError(str(error)) from None

        super().__init__(*args, check=checked, **kwargs)

    def filter(self, qs: QuerySet[Any], value: list[str]) -> QuerySet[Any]:
        return qs.filter(**{f"{self.field_name}__in": value}) if value else qs


class _MomentField(forms.CharField):
    def clean(self, value: Any) -> datetime | None:
        text = super().clean(value)
        return parse_moment(text) if text else None


class MomentFilter(django_filters.Filter):
    """A moment as RFC 3339 or a date; without an offset it is UTC."""

    field_class = _MomentField


_SPACE_FOR_PLUS = re.compile(r" (?=\d\d:\d\d$)")


def parse_moment(text: str) -> datetime:
    """The moment a query parameter names. A `+` that the URL turned into a space is taken back."""
    try:
        moment = parse_datetime(_SPACE_FOR_PLUS.sub("+", text) if "T" in text else text)
        day = parse_date(text) if moment is None else None
        if day is not None:
            moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
        if moment is not None:
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        pass  # the text has the form of a moment, but names none: the same answer as for any other text
    raise forms.ValidationError("must be a moment such as 2023-01-01T12:00:00Z")


def one_of(choices: Iterable[str]) -> Callable[[str], str]:
    """A check for ListFilter: one of these words, in any case."""
    words = [str(choice) for choice in choices]

    def check(value: str) -> str:
        if value.lower() not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return value.lower()

    return check


def matching(pattern: str, meaning: str) -> Callable[[str], str]:
    """A check for ListFilter: the whole value matches."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"must be {meaning}")
        return value

    return check
