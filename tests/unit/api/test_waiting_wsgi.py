"""`?wait=` under WSGI: the middleware blocks, but never the last thread."""

import threading
from contextlib import ExitStack
from typing import Any

import pytest
from django.http import HttpRequest
from django.test import RequestFactory
from rest_framework.response import Response

from retire_cluster.api.pending import MAX_WSGI_WAIT_S, Pending, attach
from retire_cluster.api.renderers import EnvelopeRenderer
from retire_cluster.middleware import RequestMiddleware


class FakeWaiter:
    """Notes how long it was waited for; ends when released."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.entered = threading.Event()
        self.asked: list[float] = []

    def wait(self, seconds: float) -> bool:
        self.asked.append(seconds)
        self.entered.set()
        return self.release.wait(10)

    async def wait_async(self, seconds: float) -> bool:
        raise AssertionError("WSGI waits in its own thread")


def _view(waiter: FakeWaiter, seconds: float) -> Any:
    def view(request: HttpRequest) -> Response:
        response = Response(None)
        response.accepted_renderer = EnvelopeRenderer()
        response.accepted_media_type = "application/json"
        setattr(response, "renderer_context", {"request": request})  # noqa: B010  as REST framework's view does
        return attach(response.render(), Pending(waiter, seconds, lambda: {"state": "done"}, ExitStack()))

    return view


def _request(*, threaded: bool) -> HttpRequest:
    request = RequestFactory().get("/x")
    request.META["wsgi.multithread"] = threaded
    return request


@pytest.fixture(autouse=True)
def _one_waiter(settings: Any) -> None:
    settings.WSGI_WAITERS = 1


def test_the_thread_waits_no_longer_than_the_cap() -> None:
    waiter = FakeWaiter()
    waiter.release.set()

    response = RequestMiddleware(_view(waiter, 60))(_request(threaded=True))

    assert waiter.asked == [MAX_WSGI_WAIT_S]
    assert b'"state":"done"' in response.content
    assert response["Content-Length"] == str(len(response.content))


def test_a_shorter_wait_stays_as_it_is() -> None:
    waiter = FakeWaiter()
    waiter.release.set()

    RequestMiddleware(_view(waiter, 1.5))(_request(threaded=True))

    assert waiter.asked == [1.5]


def test_a_server_with_one_thread_answers_at_once() -> None:
    waiter = FakeWaiter()

    response = RequestMiddleware(_view(waiter, 60))(_request(threaded=False))

    assert waiter.asked == []
    assert b'"state":"done"' in response.content


def test_no_waiter_is_allowed_when_the_setting_says_none(settings: Any) -> None:
    settings.WSGI_WAITERS = 0
    waiter = FakeWaiter()

    RequestMiddleware(_view(waiter, 60))(_request(threaded=True))

    assert waiter.asked == []


def test_one_too_many_answers_at_once_while_the_first_still_waits() -> None:
    first, second = FakeWaiter(), FakeWaiter()
    waiters = iter([first, second])
    middleware = RequestMiddleware(lambda request: _view(next(waiters), 60)(request))
    blocked = threading.Thread(target=middleware, args=[_request(threaded=True)])
    blocked.start()
    assert first.entered.wait(10)

    response = middleware(_request(threaded=True))

    assert second.asked == []
    assert b'"state":"done"' in response.content
    first.release.set()
    blocked.join(10)
    assert not blocked.is_alive()
