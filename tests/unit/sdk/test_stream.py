"""The stream of events outlives its connections: over real sockets, with a server that does what it is told."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from retire_cluster.events.outbox import TYPES
from retire_cluster.sdk import Client, ConnectionFailed, UnexpectedAnswer, stream
from retire_cluster.sdk.decoding import Mismatch
from retire_cluster.sdk.errors import ApiError, Forbidden, Unauthorized, ValidationFailed
from retire_cluster.sdk.events import KINDS, Event, Reset, Snapshot, TaskEvent, event
from tests.e2e.cluster import free_port, until
from tests.unit.sdk.network import CREATED, TLS
from tests.unit.sdk.test_decoding import JSON

Script = Callable[[ServerConnection], None]
TASK = {"task_id": "t1", "status": "running", "version": 2}


def frame(kind: str, seq: int, **data: Any) -> str:
    return json.dumps({"type": kind, "seq": seq, "cursor": f"s-{seq}", "timestamp": CREATED, "data": data})


def says(*frames: str, code: int = 1012, reason: str = "") -> Script:
    """Say it all, then end the connection."""

    def script(connection: ServerConnection) -> None:
        for text in frames:
            connection.send(text)
        connection.close(code, reason)

    return script


def stays(*frames: str) -> Script:
    """Say it all, then be silent until the client goes."""

    def script(connection: ServerConnection) -> None:
        for text in frames:
            connection.send(text)
        with pytest.raises(ConnectionClosed):
            connection.recv()

    return script


def breaks(*frames: str) -> Script:
    """Say it all, then be gone without a word."""

    def script(connection: ServerConnection) -> None:
        for text in frames:
            connection.send(text)
        connection.socket.close()

    return script


@dataclass
class Refusal:
    """An answer to the handshake that is none of a WebSocket."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)

    def response(self, connection: ServerConnection) -> Response:
        answer = connection.respond(HTTPStatus(self.status), json.dumps(self.body))
        for name, value in self.headers.items():
            answer.headers[name] = value
        return answer


class Live:
    """A server of `/ws`: what it does with one connection after the other."""

    def __init__(self, *scripts: Script | Refusal) -> None:
        self.asked: list[Request] = []
        self._scripts = list(scripts)
        self._next: Script | None = None

    def queries(self) -> list[dict[str, list[str]]]:
        return [parse_qs(urlsplit(request.path).query) for request in self.asked]

    def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        self.asked.append(request)
        script = self._scripts.pop(0)
        if isinstance(script, Refusal):
            return script.response(connection)
        self._next = script
        return None

    def handle(self, connection: ServerConnection) -> None:
        assert self._next is not None
        self._next(connection)


@contextmanager
def listening(live: Live, port: int = 0, **more: Any) -> Iterator[Client]:
    """A client of the server, which ends with it."""
    with serve(live.handle, "127.0.0.1", port, process_request=live.admit, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            found = server.socket.getsockname()[1]
            with Client(f"http://127.0.0.1:{found}/api/v1", verify=TLS, **more) as client:
                yield client
        finally:
            server.shutdown()
            thread.join()


SNAPSHOT = frame("snapshot", 3, tasks={"queued": 1})
RESUMED = frame("resumed", 3)
RUNNING, FINISHED = (
    frame("task.running", 4, **TASK),
    frame("task.finished", 5, **{**TASK, "status": "success"}),
)


def test_events_come_typed_and_in_order() -> None:
    live = Live(stays(SNAPSHOT, frame("heartbeat", 3), RUNNING, FINISHED))
    with listening(live) as client, client.events() as events:
        first, second, third = (next(events) for _ in range(3))
    assert isinstance(first, Snapshot)
    assert first.tasks == {"queued": 1}
    assert first.devices is None
    assert isinstance(second, TaskEvent)
    assert (second.task_id, second.is_terminal, second.topic) == ("t1", False, "task")
    assert isinstance(third, TaskEvent)
    assert third.is_terminal
    assert events.cursor == "s-5"


@pytest.mark.parametrize("ends", [says, breaks])
def test_after_a_lost_connection_it_goes_on_behind_the_last_event(ends: Callable[..., Script]) -> None:
    live = Live(ends(SNAPSHOT, RUNNING), stays(RESUMED, FINISHED))
    with listening(live) as client, client.events() as events:
        assert [next(events).seq for _ in range(3)] == [3, 4, 5]
    assert [query.get("since") for query in live.queries()] == [None, ["s-4"]]


def test_a_server_that_ends_each_connection_at_once_is_not_asked_without_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    live = Live(says(SNAPSHOT), *[says(RESUMED)] * 5, stays(RESUMED, RUNNING))
    with listening(live) as client, client.events() as events:

        def paused(seconds: float) -> bool:
            pauses.append(seconds)
            return False

        monkeypatch.setattr(events._closed, "wait", paused)
        assert [next(events).seq for _ in range(2)] == [3, 4]
    assert len(pauses) == 6
    assert pauses[-1] > pauses[0]


def test_a_connection_that_held_for_a_while_is_made_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "STEADY_S", 0.0)
    live = Live(says(SNAPSHOT), stays(RESUMED, RUNNING))
    with listening(live) as client, client.events() as events:
        monkeypatch.setattr(events._closed, "wait", lambda seconds: pytest.fail("it paused"))
        assert [next(events).seq for _ in range(2)] == [3, 4]


def test_a_heartbeat_moves_the_place_to_go_on_from() -> None:
    live = Live(says(SNAPSHOT, frame("heartbeat", 9)), stays(frame("task.running", 10, **TASK)))
    with listening(live) as client, client.events(topics=["task"]) as events:
        assert [next(events).seq for _ in range(2)] == [3, 10]
    assert [query.get("since") for query in live.queries()] == [None, ["s-9"]]


def test_who_loses_the_connection_between_reset_and_snapshot_gets_both_again() -> None:
    reset = frame("reset", 90, reason="you were away for too long")
    live = Live(says(reset), stays(reset, frame("snapshot", 90)))
    with listening(live) as client, client.events(since="s-4") as events:
        found = [next(events) for _ in range(3)]
    assert [item.type for item in found] == ["reset", "reset", "snapshot"]
    assert isinstance(found[0], Reset)
    assert [query.get("since") for query in live.queries()] == [["s-4"], ["s-4"]]


def test_what_is_wanted_and_who_wants_it_is_said_with_every_connection() -> None:
    live = Live(says(SNAPSHOT), stays(RESUMED, RUNNING))
    with listening(live, api_key="secret") as client:
        events = client.events(topics=("task", "device"), task_id="t1")
        assert [next(events).seq for _ in range(2)] == [3, 4]
        events.close()
    for request, query in zip(live.asked, live.queries(), strict=True):
        assert request.headers["X-API-Key"] == "secret"
        assert (query["topics"], query["task_id"]) == (["task,device"], ["t1"])


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "VALIDATION_ERROR", ValidationFailed),
        (401, "UNAUTHORIZED", Unauthorized),
        (403, "FORBIDDEN", Forbidden),
        (404, "", ApiError),
    ],
)
def test_a_final_refusal_is_raised(status: int, code: str, kind: type[ApiError]) -> None:
    live = Live(Refusal(status, {"error_code": code, "message": "no"}))
    with listening(live) as client, pytest.raises(kind, match="no"):
        next(client.events())
    assert len(live.asked) == 1


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_refusal_for_now_is_tried_again(status: int) -> None:
    live = Live(Refusal(status, {}, {"Retry-After": "0"}), stays(SNAPSHOT))
    with listening(live) as client, client.events() as events:
        assert next(events).type == "snapshot"


@pytest.mark.parametrize(("code", "kind"), [(4401, Unauthorized), (4403, Forbidden)])
def test_a_key_that_was_revoked_meanwhile_ends_it(code: int, kind: type[ApiError]) -> None:
    live = Live(says(SNAPSHOT, code=code, reason="use another key"))
    with listening(live) as client, client.events() as events:
        next(events)
        with pytest.raises(kind, match="use another key"):
            next(events)


def test_a_server_that_was_never_there_is_an_error() -> None:
    nobody = Client(f"http://127.0.0.1:{free_port()}", retries=0)
    with nobody, pytest.raises(ConnectionFailed, match="check the address"):
        next(nobody.events())


def test_a_server_that_was_there_is_waited_for_longer_than_the_tries_of_a_call() -> None:
    port = free_port()
    heard: list[int] = []

    def listen(client: Client) -> None:
        with client.events() as events:
            while len(heard) < 2:
                heard.append(next(events).seq)

    with Client(f"http://127.0.0.1:{port}", retries=0, verify=TLS) as client:
        listener = threading.Thread(target=listen, args=(client,))
        with listening(Live(says(SNAPSHOT)), port) as _:
            listener.start()
            until(lambda: heard or not listener.is_alive(), "the first event")
        later = Live(stays(RESUMED, RUNNING))
        with listening(later, port):
            listener.join(60)
    assert heard == [3, 4]


def test_nothing_is_missed_that_happens_once_there_is_a_stream() -> None:
    begun = threading.Event()

    def script(connection: ServerConnection) -> None:
        connection.send(SNAPSHOT)
        assert begun.wait(60), "events() returns when it has heard something, before anybody iterates"
        stays(RUNNING)(connection)

    with listening(Live(script)) as client, client.events() as events:
        begun.set()
        assert [next(events).seq for _ in range(2)] == [3, 4]


def test_another_thread_ends_a_silent_stream() -> None:
    with listening(Live(stays(SNAPSHOT))) as client:
        events = client.events()
        assert next(events).type == "snapshot"
        rest: list[Event] = []
        listener = threading.Thread(target=lambda: rest.extend(events))
        listener.start()
        events.close()
        listener.join(30)
        assert not listener.is_alive()
    assert rest == []


def test_another_thread_ends_a_stream_that_waits_for_its_server() -> None:
    live = Live(Refusal(503, {}, {"Retry-After": "100"}))
    with listening(live) as client:
        events = stream.Events(client._calls, topics=(), task_id=None, since=None)
        listener = threading.Thread(target=events.begin)
        listener.start()
        until(lambda: live.asked, "the first try")
        events.close()
        listener.join(30)
        assert not listener.is_alive()


def test_silence_for_too_long_is_a_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SILENCE_S", 0.2)
    # On a busy machine the second one may be silent for too long as well.
    live = Live(stays(SNAPSHOT), *[stays(RESUMED, RUNNING)] * 20)
    with listening(live) as client, client.events() as events:
        assert [next(events).seq for _ in range(2)] == [3, 4]
    assert len(live.asked) >= 2


@pytest.mark.parametrize("text", ["no JSON", "[]", "{}", '{"type": "task.running", "data": {}}', "null"])
def test_what_is_no_event_is_named(text: str) -> None:
    with (
        listening(Live(stays(text))) as client,
        pytest.raises(UnexpectedAnswer, match="check that the address"),
    ):
        client.events()


def test_what_is_no_event_is_named_later_too() -> None:
    with listening(Live(stays(SNAPSHOT, "[]"))) as client, client.events() as events:
        next(events)
        with pytest.raises(UnexpectedAnswer):
            next(events)


def test_every_type_of_the_server_has_a_class_and_no_other_has_one() -> None:
    assert KINDS.keys() - {"snapshot", "reset"} == TYPES


def test_a_type_of_a_newer_server_is_an_event() -> None:
    found = event(json.loads(frame("cluster.painted", 7, colour="blue")))
    assert type(found) is Event
    assert found.data == {"colour": "blue"}


@given(st.dictionaries(st.sampled_from(["type", "seq", "cursor", "timestamp", "data"]), JSON) | JSON)
def test_whatever_comes_is_an_event_or_a_mismatch(data: Any) -> None:
    try:
        assert isinstance(event(data), Event)
    except Mismatch:
        return
