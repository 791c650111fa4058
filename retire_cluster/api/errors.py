"""What can go wrong in a request, as values: a status, a code clients can branch on, a sentence, details."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class ErrorCode(StrEnum):
    """Every `error_code` of the API."""

    VALIDATION_ERROR = "VALIDATION_ERROR"
    UNAUTHORIZED = "UNAUTHORIZED"
    FORBIDDEN = "FORBIDDEN"
    NOT_FOUND = "NOT_FOUND"
    DEVICE_NOT_FOUND = "DEVICE_NOT_FOUND"
    TASK_NOT_FOUND = "TASK_NOT_FOUND"
    RESULT_NOT_READY = "RESULT_NOT_READY"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    NOT_ACCEPTABLE = "NOT_ACCEPTABLE"
    CONFLICT = "CONFLICT"
    UPGRADE_REQUIRED = "UPGRADE_REQUIRED"
    IDEMPOTENCY_MISMATCH = "IDEMPOTENCY_MISMATCH"
    PRECONDITION_FAILED = "PRECONDITION_FAILED"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    RATE_LIMIT_EXCEEDED = "RATE_LIMIT_EXCEEDED"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    SERVICE_UNAVAILABLE = "SERVICE_UNAVAILABLE"


BY_STATUS = {
    400: ErrorCode.VALIDATION_ERROR,
    401: ErrorCode.UNAUTHORIZED,
    403: ErrorCode.FORBIDDEN,
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
    406: ErrorCode.NOT_ACCEPTABLE,
    409: ErrorCode.CONFLICT,
    412: ErrorCode.PRECONDITION_FAILED,
    413: ErrorCode.PAYLOAD_TOO_LARGE,
    415: ErrorCode.UNSUPPORTED_MEDIA_TYPE,
    426: ErrorCode.UPGRADE_REQUIRED,
    429: ErrorCode.RATE_LIMIT_EXCEEDED,
    500: ErrorCode.INTERNAL_ERROR,
    503: ErrorCode.SERVICE_UNAVAILABLE,
}
MAX_NAMED = 100  # invalid fields in one answer
RETRY_AFTER_S = 5  # what a client of an unavailable service should wait


@dataclass(frozen=True, slots=True)
class Failure:
    """An error answer before it is rendered."""

    status: int
    code: ErrorCode
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FieldError:
    """One invalid field: its dotted path and what is wrong with it."""

    field: str
    reason: str


class ApiError(Exception):
    """Ends a request with the failure it carries."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def invalid(*errors: FieldError) -> ApiError:
    """400: one or several fields are invalid."""
    return ApiError(validation_failure(errors))


def validation_failure(errors: Sequence[FieldError]) -> Failure:
    """The failure of one or several invalid fields; the first is the one named.

    An answer names at most MAX_NAMED: of a body of unknown keys it would otherwise be many times the size.
    """
    first = errors[0]
    details: dict[str, Any] = {"field": first.field, "reason": first.reason}
    if len(errors) > 1:
        details["errors"] = [{"field": error.field, "reason": error.reason} for error in errors[:MAX_NAMED]]
    if len(errors) > MAX_NAMED:
        details["further_errors"] = len(errors) - MAX_NAMED
    message = f"{first.field}: {first.reason}" if first.field else first.reason
    return Failure(400, ErrorCode.VALIDATION_ERROR, message, details)


def not_found(code: ErrorCode, message: str, **details: Any) -> ApiError:
    """404 with a code of its own."""
    return ApiError(Failure(404, code, message, details))


def conflict(message: str, code: ErrorCode = ErrorCode.CONFLICT, **details: Any) -> ApiError:
    """409: the state of things does not allow it."""
    return ApiError(Failure(409, code, message, details))


def too_large(message: str, field_name: str = "") -> ApiError:
    """413."""
    details = {"field": field_name, "reason": message} if field_name else {}
    prefix = f"{field_name}: " if field_name else ""
    return ApiError(Failure(413, ErrorCode.PAYLOAD_TOO_LARGE, prefix + message, details))


def too_many(message: str) -> ApiError:
    """429 for a limit that time alone does not lift at once."""
    headers = {"Retry-After": "60"}
    return ApiError(Failure(429, ErrorCode.RATE_LIMIT_EXCEEDED, message, {"reason": message}, headers))


def unavailable(message: str) -> Failure:
    """503: try again in a moment."""
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    return Failure(503, ErrorCode.SERVICE_UNAVAILABLE, message, {}, headers)
