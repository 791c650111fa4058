"""The API's filters on a page: what is wrong with an address is said there, and nothing is lost."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from django.db.models import QuerySet
from django.http import HttpRequest, QueryDict

from retire_cluster.api.errors import ApiError, FieldError

T = TypeVar("T")


def apply(
    filter_class: Any, request: HttpRequest, queryset: QuerySet[Any]
) -> tuple[QuerySet[Any], list[FieldError]]:
    """The rows the address asks for, and what it has wrong; then all rows are found. Empty parameters are none."""
    given = QueryDict(mutable=True)
    for name, values in request.GET.lists():
        given.setlist(name, [value for value in values if value])
    filterset = filter_class({name: values for name, values in given.lists() if values} and given, queryset)
    if filterset.is_valid():
        return filterset.qs, []
    return queryset, [
        FieldError(str(name), str(message))
        for name, messages in filterset.form.errors.items()
        for message in messages
    ]


def whole(text: str, *, otherwise: T) -> int | T:
    """The whole number somebody wrote; what is none, or is far too long to be one, is something else."""
    return int(text) if re.fullmatch(r"\s*-?[0-9]{1,12}\s*", text, re.ASCII) else otherwise


def problems_of(error: ApiError) -> list[FieldError]:
    """What the API says is wrong, field by field."""
    details = error.failure.details
    named: list[Mapping[str, Any]] = list(details.get("errors") or ([details] if "field" in details else []))
    if not named:
        return [FieldError("", error.failure.message)]
    return [FieldError(str(item["field"]), str(item["reason"])) for item in named]
