"""REST framework's exception handler: every exception becomes a Failure, none shows internals by accident."""

import logging
import traceback
from typing import Any

from django.conf import settings
from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404
from django.http.multipartparser import MultiPartParserError
from rest_framework import exceptions as drf
from rest_framework.response import Response
from rest_framework.views import set_rollback

from retire_cluster import db, disk
from retire_cluster.api.errors import (
    BY_STATUS,
    ApiError,
    ErrorCode,
    Failure,
    FieldError,
    unavailable,
    validation_failure,
)
from retire_cluster.credentials import mask

logger = logging.getLogger("api.errors")

DATABASE_AWAY = "the database cannot be used right now; try again in a few seconds"


def handle(exc: Exception, context: dict[str, Any]) -> Response:
    """The error answer to an exception of a view; REST framework's EXCEPTION_HANDLER."""
    set_rollback()
    failure = from_exception(exc)
    return Response(failure, status=failure.status, headers=dict(failure.headers), exception=True)


def from_exception(exc: BaseException) -> Failure:
    """What a client is told about an exception; unexpected ones are logged with their traceback."""
    if isinstance(exc, ApiError):
        return exc.failure
    if isinstance(exc, drf.APIException):
        return _from_framework(exc)
    if isinstance(exc, Http404):
        return Failure(404, ErrorCode.NOT_FOUND, "there is nothing at this address")
    if isinstance(exc, PermissionDenied):
        return Failure(403, ErrorCode.FORBIDDEN, str(exc) or "this is not allowed")
    if isinstance(exc, RequestDataTooBig):
        return body_too_large(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
    if isinstance(exc, (SuspiciousOperation, BadRequest, MultiPartParserError)):
        words = str(exc) if isinstance(exc, BadRequest) else ""
        return Failure(400, ErrorCode.VALIDATION_ERROR, words or "the request is malformed")
    if isinstance(exc, (OperationalError, InterfaceError)) or db.stood_still(exc):
        logger.error("database unavailable: %s", exc, extra={"action": "database"})
        return unavailable(disk.words(settings.DATA_DIR, exc) if disk.is_refusal(exc) else DATABASE_AWAY)
    return _unexpected(exc)


def body_too_large(limit: int) -> Failure:
    """413 for the whole body."""
    message = f"a request body may have {limit} bytes"
    return Failure(413, ErrorCode.PAYLOAD_TOO_LARGE, message, {"limit_bytes": limit})


def _unexpected(exc: BaseException) -> Failure:
    logger.error("unexpected error: %r", exc, exc_info=exc, extra={"action": "unexpected"})
    details: dict[str, Any] = {}
    if settings.DEBUG:
        lines = traceback.format_exception(exc)
        details = {"exception": mask(repr(exc)), "traceback": mask("".join(lines)).splitlines()}
    message = "the server made a mistake; its log has the details under this request id"
    return Failure(500, ErrorCode.INTERNAL_ERROR, message, details)


def _from_framework(exc: drf.APIException) -> Failure:
    if isinstance(exc, drf.ValidationError):
        return validation_failure(list(_field_errors(exc.detail)))
    status = exc.status_code
    return Failure(status, BY_STATUS.get(status, ErrorCode.INTERNAL_ERROR), _message(exc), {}, _headers(exc))


def _message(exc: drf.APIException) -> str:
    if isinstance(exc, drf.UnsupportedMediaType):
        return "send the body as JSON, with the header Content-Type: application/json"
    if isinstance(exc, drf.NotAcceptable):
        return "this API answers application/json; the Accept header excludes it"
    return str(exc.detail)


def _headers(exc: drf.APIException) -> dict[str, str]:
    headers: dict[str, str] = {}
    if getattr(exc, "auth_header", None):
        headers["WWW-Authenticate"] = str(getattr(exc, "auth_header"))  # noqa: B009 set by REST framework's view
    wait = getattr(exc, "wait", None)
    if wait is not None:
        headers["Retry-After"] = str(int(wait))
    return headers


def _field_errors(detail: Any, path: str = "") -> list[FieldError]:
    """The leaves of REST framework's nested error detail."""
    if isinstance(detail, dict):
        return [
            error
            for name, item in detail.items()
            for error in _field_errors(
                item, path if name == "non_field_errors" else f"{path}.{name}".lstrip(".")
            )
        ]
    if isinstance(detail, list):
        return [error for item in detail for error in _field_errors(item, path)]
    return [FieldError(path, str(detail))]
