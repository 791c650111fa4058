"""A cluster that is not there: answers of a function in place of a network, and a clock that does not wait."""

import ssl
from collections.abc import Callable
from typing import Any

import httpx

from retire_cluster.sdk import RetireClusterAPI
from retire_cluster.sdk.pausing import Clock

CREATED = "2026-11-28T10:00:00.000000Z"
# Made once: reading the machine's certificates takes longer than most tests.
TLS = ssl.create_default_context()
Answering = Callable[[httpx.Request], httpx.Response]


class StillClock(Clock):
    """Time passes only when somebody waits, or when a test says so."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.pauses: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.time += seconds


def success(
    data: Any, status: int = 200, headers: dict[str, str] | None = None, **more: Any
) -> httpx.Response:
    body = {"status": "success", "data": data, "timestamp": CREATED, "request_id": "r", **more}
    return httpx.Response(status, json=body, headers=headers)


def failure(
    status: int, code: str, /, message: str = "no", headers: dict[str, str] | None = None, **details: Any
) -> httpx.Response:
    body = {
        "status": "error",
        "message": message,
        "error_code": code,
        "error_details": details,
        "timestamp": CREATED,
        "request_id": "r-1",
    }
    return httpx.Response(status, json=body, headers=headers)


def task_row(task_id: str = "t1", status: str = "queued", **more: Any) -> dict[str, Any]:
    """The five fields every task has."""
    row = {"task_id": task_id, "task_type": "echo", "status": status, "priority": "normal"}
    return {**row, "created_at": CREATED, **more}


class Server:
    """What a client asked for, and what it got: the answers in order, the last one for ever."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = list(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        # A response belongs to one request.
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def client(
    answering: Answering,
    clock: Clock | None = None,
    address: str = "http://cluster.test:8081/api/v1",
    **more: Any,
) -> RetireClusterAPI:
    return RetireClusterAPI(
        address,
        transport=httpx.MockTransport(answering),
        clock=clock or StillClock(),
        verify=TLS,
        **more,
    )
