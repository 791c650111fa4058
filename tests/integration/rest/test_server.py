"""The REST API as a real server: uvicorn, the ASGI bridge, Django, the database, over a socket."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from django.db import connection

from tasks import waiting
from tasks.models import Attempt, Task
from tests.factories import START, make_attempt, make_device
from tests.integration.rest.serving import DEADLINE_S, raw, until

pytestmark = pytest.mark.django_db(transaction=True)

ECHO = {"task_type": "echo", "payload": {"message": "Hello World"}}


def _finish(task_id: UUID) -> None:
    """What a gateway does at the end of a task."""
    task = Task.objects.get(pk=task_id)
    attempt = make_attempt(task, make_device(), outcome="success", result='{"echo":{"n":1.0e2}}', ran_s=0.5)
    Task.objects.filter(pk=task_id).update(
        status="success", finished_at=START + timedelta(minutes=1), result_attempt=attempt.pk, execution_s=0.5
    )
    waiting.ended([task_id])


def test_the_specification_s_calls_work(client: httpx.Client) -> None:
    assert client.get("/health").json()["status"] == "healthy"
    assert client.get("/api/v1/cluster/status").status_code == 200
    assert client.get("/api/v1/devices").json()["data"] == []
    created = client.post("/api/v1/tasks", json=ECHO)
    assert created.status_code == 201
    assert client.get(created.headers["Location"] + "/status").json()["data"]["status"] == "queued"


def test_a_submission_that_waits_is_answered_when_its_task_ends(client: httpx.Client) -> None:
    answers: list[httpx.Response] = []
    caller = threading.Thread(target=lambda: answers.append(client.post("/api/v1/tasks?wait=15", json=ECHO)))
    caller.start()
    task_id = until(waiting.waiting_for)[0]
    until(lambda: Task.objects.filter(pk=task_id).exists())
    assert answers == []

    _finish(task_id)
    caller.join(DEADLINE_S)

    [answer] = answers
    task = answer.json()["data"]["task"]
    assert (answer.status_code, task["status"], task["execution_time_seconds"]) == (201, "success", 0.5)
    assert '"result":{"echo":{"n":1.0e2}}' in answer.text
    assert answer.headers["Location"] == f"/api/v1/tasks/{task_id}"
    assert answer.headers["X-Request-ID"] == answer.json()["request_id"]
    assert waiting.waiting_for() == []


def test_a_wait_ends_in_time_with_the_state_as_it_is(client: httpx.Client) -> None:
    answer = client.post("/api/v1/tasks?wait=0.05", json=ECHO)

    assert (answer.status_code, answer.json()["data"]["task"]["status"]) == (201, "queued")
    task_id = answer.json()["data"]["task_id"]
    assert client.get(f"/api/v1/tasks/{task_id}/status?wait=0.05").json()["data"]["is_terminal"] is False
    late = client.get(f"/api/v1/tasks/{task_id}/result?wait=0.05")
    assert (late.status_code, late.json()["error_code"]) == (404, "RESULT_NOT_READY")


@pytest.mark.parametrize("view", ["status", "result"])
def test_status_and_result_wait_too(client: httpx.Client, view: str) -> None:
    task_id = UUID(client.post("/api/v1/tasks", json=ECHO).json()["data"]["task_id"])
    answers: list[httpx.Response] = []
    caller = threading.Thread(
        target=lambda: answers.append(client.get(f"/api/v1/tasks/{task_id}/{view}?wait=15"))
    )
    caller.start()
    until(waiting.waiting_for)

    _finish(task_id)
    caller.join(DEADLINE_S)

    assert answers[0].json()["data"]["status"] == "success"


def test_more_callers_wait_than_there_are_threads(port: int, client: httpx.Client) -> None:
    task_id = UUID(client.post("/api/v1/tasks", json=ECHO).json()["data"]["task_id"])
    path = f"http://127.0.0.1:{port}/api/v1/tasks/{task_id}/result?wait=15"

    async def main() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=DEADLINE_S) as http:
            calls = [asyncio.create_task(http.get(path)) for _ in range(10)]
            while waiting.callers(task_id) < 10:  # all ten wait on two threads
                assert not any(call.done() for call in calls)
                await asyncio.sleep(0.01)
            assert (await http.get(f"http://127.0.0.1:{port}/health")).status_code == 200
            await asyncio.to_thread(_finish_and_close, task_id)
            return list(await asyncio.gather(*calls))

    answers = asyncio.run(asyncio.wait_for(main(), DEADLINE_S))

    assert {answer.status_code for answer in answers} == {200}
    assert Attempt.objects.count() == 1


def _finish_and_close(task_id: UUID) -> None:
    _finish(task_id)
    connection.close()


def test_a_caller_that_hangs_up_is_forgotten(port: int, client: httpx.Client) -> None:
    task_id = client.post("/api/v1/tasks", json=ECHO).json()["data"]["task_id"]
    with socket.create_connection(("127.0.0.1", port)) as caller:
        caller.sendall(
            f"GET /api/v1/tasks/{task_id}/status?wait=15 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )
        until(waiting.waiting_for)

    assert until(lambda: not waiting.waiting_for())


def test_an_underscore_header_is_not_a_key(port: int, settings: Any) -> None:
    settings.API_KEYS, settings.AUTH = ["sesame-open-the-door"], "all"
    request = "GET /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\n{}: {}\r\nConnection: close\r\n\r\n"
    key = settings.API_KEYS[0]

    assert raw(port, request.format("X-API-Key", key).encode()).startswith(b"HTTP/1.1 200")
    assert raw(port, request.format("X_API_Key", key).encode()).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("value", [b"k\xe9y", b"\xff" * 20, "schlüssel".encode()])
def test_a_key_beyond_ascii_is_wrong_not_an_error(port: int, value: bytes) -> None:
    request = (
        b"GET /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nX-API-Key: "
        + value
        + b"\r\nConnection: close\r\n\r\n"
    )

    assert raw(port, request).startswith(b"HTTP/1.1 401")


def test_two_hosts_are_no_host(port: int) -> None:
    request = (
        b"GET /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    )

    assert raw(port, request).startswith(b"HTTP/1.1 400")


def test_a_large_chunked_body_is_413_and_the_server_goes_on(client: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 64 * 1024

    answer = client.post("/api/v1/tasks", content=chunks(), headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["error_code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert client.get("/health").status_code == 200


def test_a_client_that_sends_all_of_too_large_a_body_first_hears_the_answer(port: int) -> None:
    """As nginx does. A server that closes while the client sends resets the connection, and its answer is lost."""
    size = 9 * 1024 * 1024
    head = (
        "POST /api/v1/tasks/batch HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Length: {size}\r\n\r\n"
    )

    assert raw(port, head.encode() + b" " * size).startswith(b"HTTP/1.1 413")


def test_who_asks_before_sending_too_much_need_not_send_it(port: int) -> None:
    request = (
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Expect: 100-continue\r\nContent-Length: 9000000\r\n\r\n"
    )

    assert raw(port, request).startswith(b"HTTP/1.1 413")


def test_static_files_and_head_come_through(client: httpx.Client) -> None:
    sheet = client.get("/static/retire_cluster/style.css")
    head = client.head("/static/retire_cluster/style.css")

    assert "--accent" in sheet.text
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == sheet.headers["Content-Length"]
    assert client.head("/api/v1/tasks").content == b""


def test_a_connection_serves_many_requests(client: httpx.Client) -> None:
    ids = {client.get("/api/v1/tasks").headers["X-Request-ID"] for _ in range(20)}

    assert len(ids) == 20
