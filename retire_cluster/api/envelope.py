"""The one form of every answer under /api/, and its JSON text."""

import json
import re
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest, HttpResponse

from retire_cluster.api.errors import Failure

REQUEST_ID = "retire_cluster.request_id"
"""Key in a request's META; not a header's name, so no client can set it."""


@dataclass(frozen=True, slots=True)
class Page:
    """A list with its place in a longer one."""

    items: list[Any]
    pagination: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RawJSON:
    """JSON text that goes into the answer unchanged."""

    text: str


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with `Z` and microseconds."""
    if moment.tzinfo is not UTC:  # it nearly always is, and a page has hundreds
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")[: -len("+00:00")] + "Z"


def success(data: Any, *, request_id: str, now: datetime) -> dict[str, Any]:
    """The envelope of an answer; a Page brings its pagination."""
    body: dict[str, Any] = {"status": "success"}
    if isinstance(data, Page):
        body |= {"data": data.items, "pagination": data.pagination}
    else:
        body["data"] = data
    return body | {"timestamp": timestamp(now), "request_id": request_id}


def error(failure: Failure, *, request_id: str, now: datetime) -> dict[str, Any]:
    """The envelope of an error."""
    return {
        "status": "error",
        "message": failure.message,
        "error_code": failure.code.value,
        "error_details": dict(failure.details),
        "timestamp": timestamp(now),
        "request_id": request_id,
    }


# Raw JSON is put in after encoding, where a marker stands that nobody outside this process can know.
_MARK = secrets.token_hex(16)
_MARKED = re.compile(f'"{_MARK}:([0-9]+)"')


def dumps(value: Any, *, indent: int | None = None) -> str:
    """JSON text; times become RFC 3339 text, UUIDs dashed text, RawJSON stays as it is."""
    raw: list[str] = []

    def encode(item: Any) -> str:
        if isinstance(item, RawJSON):
            raw.append(item.text)
            return f"{_MARK}:{len(raw) - 1}"
        if isinstance(item, datetime):
            return timestamp(item)
        if isinstance(item, uuid.UUID):
            return str(item)
        raise TypeError(f"{type(item).__name__} has no JSON form")

    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(
        value, ensure_ascii=False, separators=separators, default=encode, allow_nan=False, indent=indent
    )
    return _MARKED.sub(lambda match: raw[int(match[1])], text) if raw else text


def request_id(request: HttpRequest) -> str:
    """The id of the request; given by the middleware, made here for one that did not pass it."""
    if REQUEST_ID not in request.META:
        request.META[REQUEST_ID] = str(uuid.uuid4())
    known: str = request.META[REQUEST_ID]
    return known


def error_response(request: HttpRequest, failure: Failure) -> HttpResponse:
    """An error answer from outside of REST framework: middleware, unknown path, server error."""
    body = error(failure, request_id=request_id(request), now=datetime.now(UTC))
    return HttpResponse(
        dumps(body).encode(errors="replace"),
        content_type="application/json",
        status=failure.status,
        headers=dict(failure.headers),
    )
