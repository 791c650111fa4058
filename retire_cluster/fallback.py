"""Answers where no view could answer: the envelope under /api/, one plain line elsewhere."""

import sys

from django.http import HttpRequest, HttpResponse

from retire_cluster.api import exceptions
from retire_cluster.api.envelope import error_response
from retire_cluster.api.errors import ErrorCode, Failure


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, exceptions.from_exception(exception))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, exceptions.from_exception(exception))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    message = "there is nothing at this address; the dashboard is at / and the API at /api/v1"
    return _answer(request, Failure(404, ErrorCode.NOT_FOUND, message))


def server_error(request: HttpRequest) -> HttpResponse:
    """Django calls this inside the handling of the exception, without passing it."""
    error = sys.exc_info()[1]
    message = "the server made a mistake"
    failure = exceptions.from_exception(error) if error else Failure(500, ErrorCode.INTERNAL_ERROR, message)
    return _answer(request, failure)


def _answer(request: HttpRequest, failure: Failure) -> HttpResponse:
    if request.path.startswith(("/api/", "/health")):
        return error_response(request, failure)
    text = f"{failure.status}: {failure.message}\n"
    headers = dict(failure.headers)
    return HttpResponse(
        text, status=failure.status, content_type="text/plain; charset=utf-8", headers=headers
    )
