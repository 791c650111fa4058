"""Answers where no view could answer: the envelope under /api/, elsewhere a page for browsers, one line for others.

Nothing here asks the database: it may be what is away.
"""

import sys

from django.http import Http404, HttpRequest, HttpResponse, HttpResponsePermanentRedirect
from django.template.loader import render_to_string
from django.urls import Resolver404, resolve

from retire_cluster.api import exceptions
from retire_cluster.api.envelope import error_response
from retire_cluster.api.errors import ErrorCode, Failure


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, exceptions.from_exception(exception))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, exceptions.from_exception(exception))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if request.method in ("GET", "HEAD") and _is_page(f"{request.path_info}/"):
        query = request.META.get("QUERY_STRING", "")
        return HttpResponsePermanentRedirect(f"{request.path}/{'?' if query else ''}{query}")
    message = "there is nothing at this address; the dashboard is at / and the API at /api/v1"
    if isinstance(exception, Http404) and exception.args and isinstance(exception.args[0], str):
        message = exception.args[0]
    return _answer(request, Failure(404, ErrorCode.NOT_FOUND, message))


def server_error(request: HttpRequest) -> HttpResponse:
    """Django calls this inside the handling of the exception, without passing it."""
    error = sys.exc_info()[1]
    message = "the server made a mistake"
    failure = exceptions.from_exception(error) if error else Failure(500, ErrorCode.INTERNAL_ERROR, message)
    return _answer(request, failure)


def _is_page(path: str) -> bool:
    """Whether a page of the dashboard is there."""
    try:
        return resolve(path).namespace == "dashboard"
    except Resolver404:
        return False


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """For a form that is older than the session, such as one left open while somebody signed in elsewhere."""
    message = (
        "this form is older than your sign-in: go back, copy what you wrote, reload the page, send it again"
    )
    return refusal(request, Failure(403, ErrorCode.FORBIDDEN, message))


def refusal(request: HttpRequest, failure: Failure) -> HttpResponse:
    """A page for somebody who was looking at pages, else the API's envelope."""
    return _page(failure) if _wants_page(request) else error_response(request, failure)


def _wants_page(request: HttpRequest) -> bool:
    is_api = request.path.startswith(("/api/", "/health"))
    return not is_api and "text/html" in request.headers.get("Accept", "")


def _page(failure: Failure) -> HttpResponse:
    page = render_to_string("problem.html", {"status": failure.status, "message": failure.message})
    return HttpResponse(page, status=failure.status, headers=dict(failure.headers))


def _answer(request: HttpRequest, failure: Failure) -> HttpResponse:
    if request.path.startswith(("/api/", "/health")):
        return error_response(request, failure)
    if _wants_page(request):
        return _page(failure)
    text = f"{failure.status}: {failure.message}\n"
    headers = dict(failure.headers)
    return HttpResponse(
        text, status=failure.status, content_type="text/plain; charset=utf-8", headers=headers
    )
