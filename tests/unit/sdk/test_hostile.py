"""Servers that are broken or mean no good, over real sockets: every one of them is an SdkError, and soon."""

import gzip
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from retire_cluster.sdk import ApiError, Client, ConnectionFailed, InvalidRequest, Timeout, UnexpectedAnswer
from retire_cluster.sdk import calls as sdk_calls
from tests.unit.sdk.network import TLS, Server, StillClock, client, success, task_row

DEEP = b"[" * 200_000


@contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """A server that says each connection's request these bytes, and ends it; the last for ever."""
    left = list(answers)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65_536)
                    connection.sendall(left.pop(0) if len(left) > 1 else left[0])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def fine(data: Any, *headers: str) -> bytes:
    return http(json.dumps({"status": "success", "data": data}).encode(), "200 OK", *headers)


@pytest.mark.parametrize(
    "answer",
    [
        http(DEEP),
        http(b'{"data": ' + DEEP),
        http(b'{"data": "\xff\xfe"}'),
        http(b'{"data": ' + b"9" * 5000 + b"}"),
        http(b"no gzip", "200 OK", "Content-Encoding: gzip"),
        http(b"{}", "302 Found", "Location: http://other.test/\xe2\x80\xae"),
        http(b'{"status": "success", "data": {}}', "307 Temporary Redirect", "Location: http://127.0.0.1:1"),
        fine(task_row(execution_time_seconds=10**400)),
        fine(task_row(completed_at="0001-01-01T00:00:00+14:00")),
        fine(task_row(completed_at="2026-11-28T10:00:00")),
        fine({**task_row(), "status": ["success"]}),
    ],
)
def test_what_no_api_answers_is_named(answer: bytes) -> None:
    with (
        answering(answer) as address,
        Client(address, verify=TLS, retries=0) as api,
        pytest.raises(UnexpectedAnswer),
    ):
        api.status("t1")


@pytest.mark.parametrize(
    "answer", [b"", b"\x00\x1b", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", b"HTTP/9"]
)
def test_half_an_answer_is_a_lost_connection(answer: bytes) -> None:
    with (
        answering(answer) as address,
        Client(address, verify=TLS, retries=0) as api,
        pytest.raises(ConnectionFailed),
    ):
        api.status("t1")


@pytest.mark.parametrize(
    "pagination", [[], "x", {"next_cursor": 5}, {"has_next": "yes"}, {"total_items": "\x1b[2J"}]
)
def test_a_pagination_of_another_kind_is_named(pagination: Any) -> None:
    api = client(Server(success([], pagination=pagination or [1])))
    with pytest.raises(UnexpectedAnswer):
        api.tasks().page()


def test_a_page_that_follows_itself_ends_the_list() -> None:
    place = {"has_next": True, "next_cursor": "again"}
    server = Server(success([task_row()], pagination=place))
    with pytest.raises(UnexpectedAnswer, match="follows itself"):
        list(client(server).tasks())
    assert len(server.requests) == 2


def test_output_that_repeats_itself_for_ever_is_not_read_for_ever() -> None:
    piece = {"offset": 0, "attempt": 1, "stream": "stdout", "text": "x", "at": task_row()["created_at"]}
    chunks = [{**piece, "left_out": 0}] * 500
    page = {"task_id": "t", "status": "running", "chunks": chunks, "next_offset": 0, "is_complete": False}
    with pytest.raises(UnexpectedAnswer, match="read already"):
        list(client(Server(success(page))).logs("t"))


def test_a_count_of_calls_left_that_is_absurd_is_none() -> None:
    with answering(fine(task_row(), "X-RateLimit-Remaining: " + "9" * 5000)) as address:
        assert Client(address, verify=TLS).status("t1").task_id == "t1"


def test_an_answer_that_grows_when_unpacked_ends_at_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk_calls, "LARGEST_ANSWER", 2**20)
    bomb = gzip.compress(b" " * 2**24)
    with (
        answering(http(bomb, "200 OK", "Content-Encoding: gzip")) as address,
        Client(address, verify=TLS) as api,
        pytest.raises(UnexpectedAnswer, match="more than 1 MiB"),
    ):
        api.status("t1")


class Drops(httpx.SyncByteStream):
    """A body that never ends, a byte every 20 seconds."""

    def __init__(self, clock: StillClock) -> None:
        self._clock = clock

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(1000):
            self._clock.time += 20
            yield b" "


def test_an_answer_that_comes_drop_by_drop_is_too_late() -> None:
    clock = StillClock()
    began = clock.now()
    api = client(lambda request: httpx.Response(200, stream=Drops(clock)), clock, retries=0)
    with pytest.raises(Timeout):
        api.status("t1")
    assert clock.now() - began <= 60


@pytest.mark.parametrize("task_id", ["", ".", "..", "\udcff"])
def test_what_is_no_id_is_not_asked_for(task_id: str) -> None:
    server = Server(success({}))
    for act in (client(server).cancel, client(server).remove, client(server).key):
        with pytest.raises(InvalidRequest, match="is no id"):
            act(task_id)
    assert server.requests == []


@pytest.mark.parametrize("payload", [{"a": float("nan")}, {"a": "\ud800"}])
def test_what_json_cannot_say_is_not_sent(payload: dict[str, Any]) -> None:
    server = Server(success({}))
    api = client(server)
    acts: list[Callable[[], Any]] = [
        lambda: api.submit("echo", payload),
        lambda: api.submit_many([{"task_type": "echo", "payload": payload}]),
    ]
    for act in acts:
        with pytest.raises(InvalidRequest, match="cannot be sent"):
            act()
    assert server.requests == []


@pytest.mark.parametrize("key", ["é", "two\nlines"])
def test_an_idempotency_key_that_is_no_header_is_not_sent(key: str) -> None:
    with (
        answering(fine({"task": task_row()})) as address,
        Client(address, verify=TLS) as api,
        pytest.raises(InvalidRequest),
    ):
        api.submit("echo", idempotency_key=key)


@pytest.mark.parametrize("address", ["http://h:port", "http://[::1", "http://h:99999999", "http://h\x00"])
def test_an_address_that_is_none_is_a_value_error(address: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        Client(address, verify=TLS)


@pytest.mark.parametrize("made", [None, 5, [], [task_row()] * 3])
def test_a_batch_that_is_answered_with_other_than_its_tasks_is_named(made: Any) -> None:
    with pytest.raises(UnexpectedAnswer) as caught:
        client(Server(success({"tasks": made}))).submit_many([{"task_type": "echo"}] * 2)
    assert caught.value.submitted == ()


def test_more_threads_than_a_pool_has_connections_wait_at_once() -> None:
    """Each waits for an answer that comes only when all have asked."""
    many = 110
    together = threading.Barrier(many, timeout=60)
    with socket.create_server(("127.0.0.1", 0), backlog=many) as listener:

        def answer(connection: socket.socket) -> None:
            with connection:
                connection.recv(65_536)
                together.wait()
                connection.sendall(fine(task_row(status="success")))

        def serve() -> None:
            for _ in range(many):
                threading.Thread(target=answer, args=(listener.accept()[0],)).start()

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        with Client(f"http://127.0.0.1:{listener.getsockname()[1]}", verify=TLS, retries=0) as api:
            ended: list[str] = []
            waiting = [
                threading.Thread(target=lambda: ended.append(api.wait("t1").status)) for _ in range(many)
            ]
            for thread in waiting:
                thread.start()
            for thread in waiting:
                thread.join()
    assert ended == ["success"] * many


@pytest.mark.parametrize(
    "handshake",
    [
        http(b"", "503 Busy", "Retry-After: 0", "Retry-After: 0"),
        http(DEEP, "400 No"),
        b"",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n\xff\xff\xff",
        b"HTTP/1.1 101 Switching Protocols\r\n" + b"X: y\r\n" * 500,
        b"\x00" * 100_000,
    ],
)
def test_a_handshake_of_junk_is_an_error_of_ours(handshake: bytes) -> None:
    with (
        answering(handshake) as address,
        Client(address, verify=TLS, retries=1) as api,
        pytest.raises((ApiError, ConnectionFailed)),
    ):
        api.events()


def test_a_key_follows_no_redirect_to_another_host() -> None:
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as other:

        def listen() -> None:
            try:
                connection, _ = other.accept()
            except OSError:
                return
            with connection:
                asked.append(connection.recv(65_536))

        thread = threading.Thread(target=listen)
        thread.start()
        port = other.getsockname()[1]
        try:
            for scheme in ("ws", "http"):
                away = http(b"", "307 Temporary Redirect", f"Location: {scheme}://127.0.0.1:{port}/ws")
                with (
                    answering(away) as address,
                    Client(address, api_key="secret", verify=TLS, retries=0) as api,
                ):
                    for act in (api.events, api.cluster_status):
                        with pytest.raises(UnexpectedAnswer, match="redirects to"):
                            act()
        finally:
            other.shutdown(socket.SHUT_RDWR)
            thread.join()
    assert asked == []
