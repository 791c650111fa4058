"""The ASGI bridge, driven message by message, with small views instead of the product's."""

import asyncio
import json
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from retire_cluster.api.errors import ErrorCode, not_found
from retire_cluster.api.pending import Pending, attach
from retire_cluster.http_bridge import HttpBridge

Message = dict[str, Any]


class FakeWaiter:
    """Ends when told, from any thread."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.closed = threading.Event()

    def wait(self, seconds: float) -> bool:
        raise AssertionError("the bridge must not hold a thread")

    async def wait_async(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self.ended.wait(), seconds)
        except TimeoutError:
            return False
        return True


@dataclass
class Waits:
    """What the waiting view uses; each test fills it."""

    waiter: FakeWaiter = field(default_factory=FakeWaiter)
    seconds: float = 10.0
    produce: Callable[[], Any] = lambda: {"state": "done"}


waits: list[Waits] = []


def echo(request: HttpRequest) -> HttpResponse:
    meta = {key: value for key, value in request.META.items() if isinstance(value, str)}
    return JsonResponse(
        {
            "method": request.method,
            "path": request.path,
            "query": request.GET.dict(),
            "body": request.body.decode("latin-1"),
            "meta": meta,
            "thread": threading.current_thread().name,
            "scheme": request.scheme,
        }
    )


def cookies(request: HttpRequest) -> HttpResponse:
    response = HttpResponse("ok")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(iter([b"one", b"two", b"three"]))


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("the secret of the house")


class WaitingView(APIView):
    authentication_classes = ()
    permission_classes = ()

    def get(self, request: Request) -> Response:
        plan = waits[-1]
        stack = ExitStack()
        stack.callback(plan.waiter.closed.set)
        return attach(Response(None), Pending(plan.waiter, plan.seconds, plan.produce, stack))


urlpatterns = [
    path("echo", echo),
    path("cookies", cookies),
    path("stream", stream),
    path("broken", broken),
    path("wait", WaitingView.as_view()),
]
handler404 = "retire_cluster.fallback.not_found"
handler500 = "retire_cluster.fallback.server_error"


@pytest.fixture(autouse=True)
def _small_site(settings: Any) -> Iterator[None]:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = ["retire_cluster.middleware.RequestMiddleware"]
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    yield
    waits.clear()


class Conversation:
    """One request: what the application may receive, and what it sent."""

    def __init__(self, app: HttpBridge, scope: Message, incoming: list[Message]) -> None:
        self.sent: list[Message] = []
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        for message in incoming:
            self._incoming.put_nowait(message)
        self._app, self._scope = app, scope

    async def run(self) -> "Conversation":
        await self._app(self._scope, self._receive, self._send)
        return self

    def hang_up(self) -> None:
        self._incoming.put_nowait({"type": "http.disconnect"})

    async def _receive(self) -> Message:
        return await self._incoming.get()

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return list(self.sent[0]["headers"])

    def header(self, name: bytes) -> bytes:
        return next(value for key, value in self.headers if key == name)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    def json(self) -> Any:
        return json.loads(self.body)


def conversation(
    app: HttpBridge,
    target: str,
    *,
    method: str = "GET",
    headers: list[tuple[bytes, bytes]] | None = None,
    chunks: list[bytes] | None = None,
    query: bytes = b"",
) -> Conversation:
    parts = chunks or [b""]
    incoming = [
        {"type": "http.request", "body": part, "more_body": index < len(parts) - 1}
        for index, part in enumerate(parts)
    ]
    scope = {
        "type": "http",
        "method": method,
        "path": target,
        "raw_path": target.encode(),
        "query_string": query,
        "root_path": "",
        "scheme": "https",
        "headers": [(b"host", b"localhost"), *(headers or [])],
        "client": ("192.0.2.4", 5555),
        "server": ("127.0.0.1", 8081),
    }
    return Conversation(app, scope, incoming)


@pytest.fixture
def app() -> HttpBridge:
    return HttpBridge(2)


def run(work: Awaitable[Conversation]) -> Conversation:
    async def main() -> Conversation:
        return await asyncio.wait_for(work, 20)

    return asyncio.run(main())


def test_a_request_arrives_whole_and_in_a_pool_thread(app: HttpBridge) -> None:
    answer = run(
        conversation(
            app,
            "/echo",
            method="POST",
            headers=[(b"content-type", b"text/plain"), (b"x-a", b"1"), (b"x-a", b"2")],
            chunks=[b"he", b"ll", b"o"],
            query=b"a=1&b=%C3%A9",
        ).run()
    )

    seen = answer.json()
    assert answer.status == 200
    assert (seen["method"], seen["path"], seen["body"], seen["scheme"]) == ("POST", "/echo", "hello", "https")
    assert seen["query"] == {"a": "1", "b": "é"}
    assert (seen["meta"]["REMOTE_ADDR"], seen["meta"]["HTTP_HOST"]) == ("192.0.2.4", "localhost")
    assert (seen["meta"]["HTTP_X_A"], seen["meta"]["CONTENT_LENGTH"]) == ("1,2", "5")
    assert seen["thread"].startswith("http-")


def test_headers_with_underscores_cannot_pose_as_others(app: HttpBridge) -> None:
    answer = run(
        conversation(
            app, "/echo", headers=[(b"x_api_key", b"stolen"), (b"retire_cluster.bridged", b"x")]
        ).run()
    )

    assert "HTTP_X_API_KEY" not in answer.json()["meta"]
    assert "stolen" not in answer.body.decode()


def test_raw_bytes_in_a_query_are_no_error(app: HttpBridge) -> None:
    assert run(conversation(app, "/echo", query=b"a=\xff\xfe").run()).status == 200


@pytest.mark.parametrize(
    ("headers", "chunks"),
    [
        ([(b"content-length", b"101")], [b""]),
        ([], [b"x" * 60, b"x" * 60]),
        ([(b"content-length", b"1")], [b"x" * 101]),
    ],
)
def test_too_large_a_body_is_413_in_the_envelope(
    app: HttpBridge, headers: list[tuple[bytes, bytes]], chunks: list[bytes]
) -> None:
    answer = run(conversation(app, "/echo", method="POST", headers=headers, chunks=chunks).run())

    assert answer.status == 413
    assert answer.json()["error_code"] == "PAYLOAD_TOO_LARGE"
    assert answer.json()["request_id"].encode() == answer.header(b"x-request-id")


def test_a_body_of_exactly_the_limit_is_read(app: HttpBridge) -> None:
    answer = run(conversation(app, "/echo", method="POST", chunks=[b"x" * 100]).run())

    assert len(answer.json()["body"]) == 100


def test_a_client_that_leaves_while_sending_gets_no_answer(app: HttpBridge) -> None:
    async def main() -> Conversation:
        talk = conversation(app, "/echo", method="POST")
        talk._incoming = asyncio.Queue()
        talk._incoming.put_nowait({"type": "http.request", "body": b"x", "more_body": True})
        talk.hang_up()
        return await talk.run()

    assert run(main()).sent == []


def test_every_cookie_is_a_header_of_its_own(app: HttpBridge) -> None:
    answer = run(conversation(app, "/cookies").run())

    assert len([name for name, _ in answer.headers if name == b"set-cookie"]) == 2


def test_a_stream_is_sent_block_by_block(app: HttpBridge) -> None:
    answer = run(conversation(app, "/stream").run())

    assert [message.get("body") for message in answer.sent[1:]] == [b"one", b"two", b"three", b""]
    assert [message.get("more_body", False) for message in answer.sent[1:]] == [True, True, True, False]


@pytest.mark.parametrize("target", ["/echo", "/stream"])
def test_head_has_no_body(app: HttpBridge, target: str) -> None:
    answer = run(conversation(app, target, method="HEAD").run())

    assert (answer.status, answer.body) == (200, b"")


def test_a_broken_view_is_500_without_internals(app: HttpBridge) -> None:
    answer = run(conversation(app, "/broken").run())

    assert answer.status == 500
    assert b"secret" not in answer.body


def test_a_wait_ends_with_the_event_and_holds_no_thread() -> None:
    app = HttpBridge(1)

    async def main() -> Conversation:
        plan = Waits()
        waits.append(plan)
        talk = conversation(app, "/wait")
        waiting = asyncio.create_task(talk.run())
        for _ in range(3):  # the only thread serves others meanwhile
            assert (await conversation(app, "/echo").run()).status == 200
        assert talk.sent == []
        plan.waiter.ended.set()
        await waiting
        assert plan.waiter.closed.is_set()
        return talk

    answer = run(main())
    assert answer.json()["data"] == {"state": "done"}
    assert int(answer.header(b"content-length")) == len(answer.body)
    assert answer.header(b"x-request-id").decode() == answer.json()["request_id"]


def test_a_wait_ends_with_its_time(app: HttpBridge) -> None:
    async def main() -> Conversation:
        waits.append(Waits(seconds=0.01, produce=lambda: {"state": "running"}))
        return await conversation(app, "/wait").run()

    assert run(main()).json()["data"] == {"state": "running"}


def test_many_wait_on_few_threads() -> None:
    app = HttpBridge(1)

    async def main() -> Conversation:
        plan = Waits()
        waits.append(plan)
        talks = [conversation(app, "/wait") for _ in range(50)]
        running = [asyncio.create_task(talk.run()) for talk in talks]
        await conversation(app, "/echo").run()
        plan.waiter.ended.set()
        await asyncio.gather(*running)
        assert {talk.status for talk in talks} == {200}
        return talks[0]

    assert run(main()).status == 200


def test_an_error_after_the_wait_is_an_answer_with_its_status(app: HttpBridge) -> None:
    def produce() -> Any:
        raise not_found(ErrorCode.RESULT_NOT_READY, "not yet")

    async def main() -> Conversation:
        waits.append(Waits(seconds=0.0, produce=produce))
        return await conversation(app, "/wait").run()

    answer = run(main())
    assert (answer.status, answer.json()["error_code"]) == (404, "RESULT_NOT_READY")


def test_a_client_that_leaves_while_waiting_ends_the_interest(
    app: HttpBridge, caplog: pytest.LogCaptureFixture
) -> None:
    plan: list[Waits] = []

    async def main() -> Conversation:
        plan.append(Waits(seconds=30))
        waits.append(plan[0])
        talk = conversation(app, "/wait")
        talk.hang_up()
        return await talk.run()

    with caplog.at_level(logging.INFO, logger="api.requests"):
        assert run(main()).sent == []
    assert plan[0].waiter.closed.is_set()
    assert [record.__dict__["status_code"] for record in caplog.records if record.name == "api.requests"] == [
        499
    ]


def test_the_log_has_one_line_with_the_final_status(
    app: HttpBridge, caplog: pytest.LogCaptureFixture
) -> None:
    def produce() -> Any:
        raise not_found(ErrorCode.TASK_NOT_FOUND, "gone")

    async def main() -> Conversation:
        waits.append(Waits(seconds=0.0, produce=produce))
        return await conversation(app, "/wait").run()

    with caplog.at_level(logging.INFO, logger="api.requests"):
        run(main())
    [record] = [record for record in caplog.records if record.name == "api.requests"]
    assert (record.__dict__["status_code"], record.__dict__["path"]) == (404, "/wait")


@pytest.mark.parametrize("extensions", [{}, {"websocket.http.response": {}}])
def test_a_websocket_is_refused(app: HttpBridge, extensions: Message) -> None:
    scope = {"type": "websocket", "path": "/ws", "headers": [], "extensions": extensions}
    answer = run(Conversation(app, scope, [{"type": "websocket.connect"}]).run())

    if extensions:
        assert answer.sent[0]["status"] == 404
    else:
        assert answer.sent[0]["type"] == "websocket.close"


def test_lifespan_starts_and_stops(app: HttpBridge) -> None:
    incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    answer = run(Conversation(app, {"type": "lifespan"}, incoming).run())

    assert [message["type"] for message in answer.sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


def test_another_scope_is_an_error(app: HttpBridge) -> None:
    with pytest.raises(ValueError, match="unknown ASGI scope"):
        run(Conversation(app, {"type": "quic"}, []).run())
