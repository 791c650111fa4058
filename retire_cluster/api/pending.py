"""An answer that is not known yet: `?wait=` without holding a thread.

A view returns its response at once with a Pending attached. Under the ASGI bridge the event loop waits and the
answer is then completed in the thread pool; under WSGI the request middleware waits in the request's own thread.
Either way headers, cookies and the request's log line are those of the final answer.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Protocol

from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from retire_cluster.api import exceptions
from retire_cluster.api.parameters import seconds

MAX_WAIT_S = 60.0
MAX_WSGI_WAIT_S = 20.0  # a thread is held: less than the 30 s after which gunicorn kills a silent worker


class Waiter(Protocol):
    """Whatever ends the wait."""

    def wait(self, seconds: float) -> bool: ...

    async def wait_async(self, seconds: float) -> bool: ...


class Pending:
    """What completes a response: a waiter, how long to wait, and the data to answer with then.

    `produce` runs once, after the wait, and may raise what a view may raise. `resources` is closed afterwards,
    also when the client went away.
    """

    def __init__(
        self, waiter: Waiter, seconds: float, produce: Callable[[], Any], resources: ExitStack
    ) -> None:
        self.waiter = waiter
        self.seconds = seconds
        self._produce = produce
        self._resources = resources
        self.on_complete: Callable[[HttpResponse], None] = _nothing

    def complete(self, response: Response) -> None:
        """Put the final answer into the response; errors become the API's error answers."""
        self.close()
        try:
            response.data = self._produce()
        except Exception as error:  # the one place that turns a late exception into an answer
            failure = exceptions.from_exception(error)
            response.data, response.status_code = failure, failure.status
            for name, value in failure.headers.items():
                response[name] = value
        response.content = response.rendered_content
        response["Content-Length"] = str(len(response.content))
        self.on_complete(response)

    def close(self) -> None:
        """End the interest; may be called twice."""
        self._resources.close()


def _nothing(response: HttpResponse) -> None:
    """What to do on completion while no middleware asked for anything."""


def attach(response: Response, pending: Pending) -> Response:
    """The response, to be completed later."""
    response.pending = pending  # type: ignore[attr-defined]  # read back by pending_of only
    return response


def pending_of(response: object) -> Pending | None:
    """The pending part of a response, if it has one."""
    return getattr(response, "pending", None)


def wait_seconds(request: Request) -> float:
    """`?wait=SECONDS`, 0 to 60; 0 when absent."""
    return seconds(request, "wait", MAX_WAIT_S)
