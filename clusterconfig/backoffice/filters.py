"""Filters of admin lists. None reads the table to find its choices."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import HttpRequest

if TYPE_CHECKING:
    TextFilter = SimpleListFilter
else:
    from unfold.contrib.filters.admin import TextFilter


def exact(field: str, words: str) -> type[SimpleListFilter]:
    """A filter by a whole value that is typed in, so that an index answers."""

    class Exact(TextFilter):
        title = words
        parameter_name = field

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            value = (self.value() or "").strip()
            if not value:
                return queryset
            try:
                return queryset.none() if "\0" in value else queryset.filter(**{field: value})
            except ValidationError:  # such as words where an id is meant
                return queryset.none()

    return Exact


def chosen(
    name: str, words: str, choices: Sequence[str], condition: Callable[[str], Q]
) -> type[SimpleListFilter]:
    """A filter by one of some words; `condition` says what each asks of a row."""

    class Chosen(SimpleListFilter):
        title = words
        parameter_name = name

        def lookups(
            self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]"
        ) -> list[tuple[str, str]]:
            return [(choice, choice) for choice in choices]

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            value = self.value()
            return queryset.filter(condition(value)) if value and value in choices else queryset

    return Chosen
