"""What whoever guesses is told, at every page that signs in."""

import math
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from clusterconfig.guessing import TooManyTriesError


class GuessesMiddleware:
    """Answers 429, with how long to wait and what else there is to do."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Called by Django with whatever a view raised."""
        if not isinstance(exception, TooManyTriesError):
            return None
        minutes = math.ceil(exception.wait_s / 60)
        answer = render(request, "dashboard/too_many_tries.html", {"minutes": minutes}, status=429)
        answer["Retry-After"] = str(exception.wait_s)
        answer["Cache-Control"] = "no-store"
        return answer
