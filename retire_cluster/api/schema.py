"""How the API describes itself: the envelope, errors and headers that every operation shares.

Views answer plain values, so each app says in its `schema.py` what they look like, as serializers that only
describe. The fuzz tests hold the answers of a running server against the document.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    extend_schema_field,
    inline_serializer,
)
from rest_framework import serializers

from retire_cluster.api.errors import ErrorCode

# Which codes an error status may carry.
CODES: dict[int, tuple[ErrorCode, ...]] = {
    400: (ErrorCode.VALIDATION_ERROR,),
    401: (ErrorCode.UNAUTHORIZED,),
    403: (ErrorCode.FORBIDDEN,),
    404: (
        ErrorCode.NOT_FOUND,
        ErrorCode.DEVICE_NOT_FOUND,
        ErrorCode.TASK_NOT_FOUND,
        ErrorCode.RESULT_NOT_READY,
    ),
    405: (ErrorCode.METHOD_NOT_ALLOWED,),
    406: (ErrorCode.NOT_ACCEPTABLE,),
    409: (ErrorCode.CONFLICT, ErrorCode.IDEMPOTENCY_MISMATCH),
    412: (ErrorCode.PRECONDITION_FAILED,),
    413: (ErrorCode.PAYLOAD_TOO_LARGE,),
    415: (ErrorCode.UNSUPPORTED_MEDIA_TYPE,),
    429: (ErrorCode.RATE_LIMIT_EXCEEDED,),
    503: (ErrorCode.SERVICE_UNAVAILABLE,),
}
MEANINGS = {
    400: "A parameter or field is invalid; `error_details` names it and says why",
    401: "A key is needed, or the one sent is wrong",
    403: "The key lacks the scope, or a page of another site asked",
    404: "There is no such thing",
    405: "The path has no such method",
    406: "The API answers JSON only",
    409: "The state does not allow it; `error_details` names the state",
    412: "It was changed meanwhile; read it again",
    413: "The body is too large",
    415: "The body is not JSON",
    429: "Too many requests; `Retry-After` says when to come back",
    503: "The database cannot be used right now; `Retry-After` says when to come back",
}
NAME = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}
ANY_REQUEST = (400, 401, 403, 405, 406, 429, 503)
WITH_BODY = (413, 415)


class FieldErrorSchema(serializers.Serializer[Any]):
    """One invalid field."""

    field = serializers.CharField()
    reason = serializers.CharField()


class ErrorSchema(serializers.Serializer[Any]):
    """Every error, whatever its status."""

    status = serializers.ChoiceField(choices=["error"])
    message = serializers.CharField()
    error_code = serializers.ChoiceField(choices=[code.value for code in ErrorCode])
    error_details = serializers.DictField(
        help_text="`field` and `reason`; further keys by code; may be empty"
    )
    timestamp = serializers.DateTimeField()
    request_id = serializers.UUIDField()


class PageSchema(serializers.Serializer[Any]):
    """Where a page stands; with `cursor`, only `page_size`, `has_next` and `next_cursor`.

    `total_items` is exact up to 10,000; beyond it may be some seconds old.
    """

    page = serializers.IntegerField(required=False)
    page_size = serializers.IntegerField()
    total_items = serializers.IntegerField(required=False)
    total_pages = serializers.IntegerField(required=False)
    has_next = serializers.BooleanField()
    has_previous = serializers.BooleanField(required=False)
    next_cursor = serializers.CharField(required=False, allow_null=True)


@extend_schema_field(NAME)
class NameField(serializers.CharField):
    """A device's id, or a tag."""


@extend_schema_field({"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1e9})
class GigabytesField(serializers.FloatField):
    """An amount of memory or storage."""


def enveloped(name: str, data: Any, *, paged: bool = False) -> Any:
    """The success envelope around a description of its data."""
    fields: dict[str, Any] = {"status": serializers.ChoiceField(choices=["success"]), "data": data}
    if paged:
        fields["pagination"] = PageSchema()
    fields["timestamp"] = serializers.DateTimeField()
    fields["request_id"] = serializers.UUIDField()
    return inline_serializer(f"{name}Answer", fields)


def describe(
    name: str,
    data: Any,
    *,
    summary: str,
    status: int = 200,
    errors: Iterable[int] = (),
    paged: bool = False,
    body: Any = None,
    parameters: Iterable[OpenApiParameter] = (),
    headers: Mapping[str, str] | None = None,
    examples: Iterable[OpenApiExample] = (),
    further: Mapping[int, Any] | None = None,
) -> Any:
    """The decorator that describes one operation. `data` of None: only errors and `further` answers."""
    has_body = body is not None
    wanted = sorted({*ANY_REQUEST, *errors, *(WITH_BODY if has_body else ())})
    responses: dict[int, Any] = {status: OpenApiResponse(enveloped(name, data, paged=paged))}
    responses.update({code: OpenApiResponse(ErrorSchema, description=MEANINGS[code]) for code in wanted})
    responses.update({code: OpenApiResponse(item) for code, item in (further or {}).items()})
    return extend_schema(
        operation_id=name,
        summary=summary,
        request=body,
        responses=responses,
        parameters=[*parameters, REQUEST_ID, *_answer_headers(status, headers or {})],
        examples=list(examples),
    )


REQUEST_ID = OpenApiParameter(
    "X-Request-ID",
    str,
    OpenApiParameter.HEADER,
    description="A UUID of yours; another is made without one. It is in the answer and in the server's log",
)
PAGES = (
    OpenApiParameter("page", {"type": "integer", "minimum": 1, "default": 1}),
    OpenApiParameter(
        "page_size",
        {"type": "integer", "minimum": 1, "default": 20},
        description="More than 100 is taken as 100",
    ),
)
CURSOR = OpenApiParameter(
    "cursor",
    str,
    description="Paging at constant cost: empty for the first page, then `next_cursor`. Not with `page`",
)
WAIT = OpenApiParameter(
    "wait",
    {"type": "number", "minimum": 0, "maximum": 60},
    description="Seconds to wait for the end of the task before answering",
)


def _answer_headers(status: int, named: Mapping[str, str]) -> list[OpenApiParameter]:
    """Headers of the success answer; rate limits are on every answer that counts."""
    always = {
        "X-Request-ID": "The id of the request",
        "X-RateLimit-Limit": "Requests in the window, where limits apply",
        "X-RateLimit-Remaining": "Requests left in it",
        "X-RateLimit-Reset": "When it starts anew, in seconds since the epoch",
    }
    return [
        OpenApiParameter(
            name, str, OpenApiParameter.HEADER, description=text, response=[status], required=False
        )
        for name, text in {**always, **named}.items()
    ]


class EnvelopeSchema(AutoSchema):
    """drf-spectacular's description of a view, with our words for filters and paths."""

    def get_tags(self) -> list[str]:
        """The first word after /api/v1: devices, tasks, cluster."""
        parts = [part for part in self.path.split("/") if part]
        return [parts[2]] if len(parts) > 2 else ["api"]

    def get_filter_backends(self) -> list[Any]:
        return []  # our filters describe themselves better than their fields would

    def get_auth(self) -> list[dict[str, list[str]]]:
        """The ways to prove who asks; none is one of them where strangers are let in."""
        found: list[dict[str, list[str]]] = super().get_auth()
        open_to_all = (getattr(item, "open_to_all", ()) for item in self.view.get_permissions())
        return [*found, {}] if any(self.method in methods for methods in open_to_all) else found

    def _get_serializer_name(self, serializer: Any, direction: Any, *rest: Any) -> str:
        name: str = super()._get_serializer_name(serializer, direction, *rest)
        return name.removesuffix("Schema")

    def get_override_parameters(self) -> list[Any]:
        """The list's filters: of several values, repeatable and comma-separated, or of one."""
        filters = getattr(getattr(self.view, "filterset_class", None), "base_filters", {})
        if getattr(self.view, "action", "") != "list":
            return []
        return [
            OpenApiParameter(
                name,
                _item(found) if found.once else {"type": "array", "items": _item(found)},
                description=found.extra.get("help_text", ""),
            )
            for name, found in filters.items()
        ]

    def _get_paginator(self) -> None:
        return None

    def _is_list_view(self, serializer: Any = None) -> bool:
        return False  # the list is inside the envelope


def plain_paths(endpoints: list[Any]) -> list[Any]:
    """One path per route, without the optional slash; drf-spectacular's preprocessing hook."""
    return [
        (path.replace("/?", "").rstrip("/") or "/", regex, method, callback)
        for path, regex, method, callback in endpoints
        if path.startswith("/api/v1")
    ]


def _item(found: Any) -> dict[str, Any]:
    """The schema of one value of a filter."""
    return {"type": "string", "enum": found.words} if found.words else {"type": "string"}
