"""`/ws` over a real socket: who may listen, what they are told, and what becomes of those who are slow."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import httpx
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from clusterconfig import keys, tickets
from clusterconfig.audit import SYSTEM
from clusterconfig.keys import Scope
from clusterconfig.models import ClusterIdentity, StreamTicket
from devices import operations
from retire_cluster import db
from retire_cluster.events import numbering, outbox, subscription, tail
from retire_cluster.events.models import EventBatch
from retire_cluster.live import consumer
from tasks import services as tasks
from tests.factories import make_device
from tests.integration.rest.serving import DEADLINE_S, Bridge, until
from tests.stalled import Closed, Stalled, upgrade_request

pytestmark = pytest.mark.django_db(transaction=True)
HOST = {"Host": "localhost"}


class Listener:
    """A client, and what it was told."""

    def __init__(self, connection: ClientConnection) -> None:
        self.socket = connection

    def next(self) -> dict[str, Any]:
        """The next frame that says more than that the line is alive."""
        while (frame := self.any())["type"] == "heartbeat":
            pass
        return frame

    def until(self, kind: str) -> dict[str, Any]:
        while (frame := self.any())["type"] != kind:
            pass
        return frame

    def any(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(self.socket.recv(timeout=DEADLINE_S))
        return frame

    def closed(self) -> int:
        """The code the server closes with."""
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                self.socket.recv(timeout=DEADLINE_S)
        return caught.value.rcvd.code if caught.value.rcvd else 0


@pytest.fixture
def listen(port: int) -> Callable[..., Any]:
    @contextmanager
    def opened(query: str = "", **headers: str) -> Iterator[Listener]:
        address = f"ws://127.0.0.1:{port}/ws{query}"
        with connect(address, additional_headers=headers, proxy=None) as connection:
            yield Listener(connection)

    return opened


def refused(listen: Callable[..., Any], query: str = "", **headers: str) -> tuple[int, dict[str, Any]]:
    """Status and error of a handshake that does not succeed."""
    with pytest.raises(InvalidStatus) as caught, listen(query, **headers):
        pass
    return caught.value.response.status_code, json.loads(caught.value.response.body or b"")


def tell(name: str = "d") -> None:
    with db.write_transaction():
        outbox.record("device.changed", {"device_id": name})


# --- what is told ---------------------------------------------------------------------------------------------


def test_the_state_comes_first_then_each_event_once_and_in_order(listen: Callable[..., Any]) -> None:
    make_device("attic")
    with listen() as client:
        snapshot = client.next()
        assert snapshot["type"] == "snapshot"
        assert [device["device_id"] for device in snapshot["data"]["devices"]] == ["attic"]
        assert snapshot["data"]["cluster"]["online_devices"] == 1
        for number in range(50):
            tell(f"d{number}")
        frames = [client.next() for _ in range(50)]
    assert [frame["data"]["device_id"] for frame in frames] == [f"d{number}" for number in range(50)]
    assert [frame["seq"] for frame in frames] == [snapshot["seq"] + 1 + number for number in range(50)]


def test_an_operators_action_and_a_submission_are_told(
    listen: Callable[..., Any], client: httpx.Client
) -> None:
    make_device("attic")
    with listen() as follower:
        follower.until("snapshot")
        operations.cordon("attic", reason="<b>hot</b>", actor=SYSTEM)
        frame = follower.next()
        assert (frame["type"], frame["data"]) == (
            "device.changed",
            {"device_id": "attic", "cordoned": True, "cordon_reason": "<b>hot</b>"},
        )
        body = {"tasks": [{"task_type": "echo", "payload": {"password": "secret"}}] * 3}
        ids = [
            item["task_id"] for item in client.post("/api/v1/tasks/batch", json=body).json()["data"]["tasks"]
        ]
        frame = follower.next()
        assert frame["type"] == "task.submitted"
        assert (frame["data"]["task_ids"], frame["data"]["count"]) == (ids, 3)
        assert "secret" not in json.dumps(frame)


@pytest.mark.parametrize("source", ["ring", "table"])
def test_who_comes_back_gets_what_it_missed(listen: Callable[..., Any], source: str) -> None:
    with listen() as client:
        client.until("snapshot")
        tell("a")
        seen = client.next()
        with listen() if source == "ring" else contextlib.nullcontext():  # somebody keeps the tail awake
            client.socket.close()
            tell("b")
            tell("c")
            with listen(f"?since={seen['cursor']}") as back:
                assert back.next()["type"] == "resumed"
                assert [back.next()["data"]["device_id"] for _ in range(2)] == ["b", "c"]
                tell("d")
                assert back.next()["data"]["device_id"] == "d"


@pytest.mark.parametrize("trouble", ["restored", "forgotten", "future", "too much"])
def test_who_comes_back_too_late_is_told_to_begin_anew(
    listen: Callable[..., Any], bridge: Bridge, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listen() as client:
        place = client.until("snapshot")
    until(bridge.follows_nothing)  # else it would remember what is deleted below
    for name in "abcd":
        tell(name)
    stream, seq = place["cursor"].split("-")
    cursor = place["cursor"]
    if trouble == "restored":
        cursor = f"0{stream[1:]}-{seq}" if stream[0] != "0" else f"1{stream[1:]}-{seq}"
    elif trouble == "future":
        cursor = f"{stream}-{int(seq) + 100}"
    elif trouble == "too much":
        monkeypatch.setattr(tail, "RING", 2)
    else:
        while numbering.number():
            pass
        deleted, _ = EventBatch.objects.filter(seq_from__lte=int(seq) + 2).delete()
        assert deleted
    with listen(f"?since={cursor}") as back:
        reset, after = back.next(), back.next()
    assert (reset["type"], after["type"]) == ("reset", "snapshot")
    assert "not known any more" in reset["data"]["reason"]
    assert reset["cursor"] == after["cursor"]


def test_a_client_gets_only_the_topics_and_the_task_it_asked_for(
    listen: Callable[..., Any], client: httpx.Client
) -> None:
    echo = {"task_type": "echo", "payload": {}}
    mine = client.post("/api/v1/tasks", json=echo).json()["data"]["task_id"]
    with listen("?topics=device") as devices, listen(f"?task_id={mine}") as one:
        assert devices.until("snapshot")["data"].keys() == {"devices"}
        assert one.until("snapshot")["data"]["task"]["task_id"] == mine
        client.post("/api/v1/tasks", json=echo)
        tasks.cancel(UUID(mine), actor=SYSTEM)
        tell("a")
        assert devices.next()["data"] == {"device_id": "a"}
        ended = one.next()
        assert (ended["type"], ended["data"]["task_id"]) == ("task.finished", mine)
        assert ended["data"]["status"] == "cancelled"


def test_silence_is_told_from_a_broken_line(
    listen: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "HEARTBEAT_S", 0.05)
    with listen("?topics=task") as client:
        client.until("snapshot")
        tell("not asked for")
        end = time.monotonic() + DEADLINE_S
        beat = client.until("heartbeat")
        while beat["seq"] < EventBatch.objects.count() and time.monotonic() < end:
            beat = client.until("heartbeat")
        assert beat["seq"] == EventBatch.objects.count(), "so that it comes back behind what it never wanted"


def test_silence_is_told_of_silence_only(listen: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "HEARTBEAT_S", 3600.0)
    with listen() as client:
        client.until("snapshot")
        for number in range(100):
            tell(f"d{number}")
        for number in range(100):
            assert client.any()["data"] == {"device_id": f"d{number}"}


def test_a_restored_database_makes_listeners_begin_anew(
    listen: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "STREAM_LOOK_S", 0.0)
    with listen() as client:
        before = client.until("snapshot")
        identity = ClusterIdentity.objects.get()
        identity.incarnation = "11111111-2222-4333-8444-555555555555"
        identity.save()
        after = client.until("snapshot")
        assert (before["cursor"].split("-")[0], after["cursor"].split("-")[0]) == (
            before["cursor"].split("-")[0],
            "111111112222",
        )


# --- slow and odd clients -------------------------------------------------------------------------------------


def test_a_client_that_does_not_read_delays_nobody_and_begins_anew(
    listen: Callable[..., Any], port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "MAX_UNREAD", 20)
    padding = "x" * 50_000
    with contextlib.closing(Stalled(port)) as stalled, listen() as live:
        live.until("snapshot")
        for number in range(30):  # more than what fits into the sockets' buffers
            with db.write_transaction():
                outbox.record("device.changed", {"device_id": f"d{number}", "padding": padding})
            assert live.next()["data"]["device_id"] == f"d{number}"
        stalled.until("snapshot")
        reset = stalled.until("reset")
        assert "in time" in reset["data"]["reason"]
        stalled.until("snapshot")
        tell("at last")
        assert stalled.until("device.changed")["data"]["device_id"] == "at last"


def test_a_client_that_takes_nothing_is_forgotten_and_closed_when_it_reads(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "STALL_S", 0.1)
    forgotten = threading.Event()
    monkeypatch.setattr(tail.Tail, "detach", lambda *_: forgotten.set())
    with contextlib.closing(Stalled(port)) as stalled:
        stalled.until("snapshot")

        def is_forgotten() -> bool:
            with db.write_transaction():  # some of it fills the sockets' buffers
                outbox.record("device.changed", {"device_id": "d", "padding": "x" * 50_000})
            return forgotten.wait(0.05)

        until(is_forgotten)
        with pytest.raises(Closed) as caught:
            stalled.until("nothing")
    assert caught.value.code == consumer.AGAIN_LATER


def test_a_client_that_talks_too_much_is_sent_away(listen: Callable[..., Any]) -> None:
    with listen() as client:
        client.socket.send("hello")
        client.until("snapshot")
        client.socket.send("x" * (consumer.MAX_SAID_BYTES + 1))
        assert client.closed() == consumer.TOO_BIG
    with listen() as client:
        client.until("snapshot")
        end = time.monotonic() + DEADLINE_S
        with contextlib.suppress(ConnectionClosed):
            while time.monotonic() < end:
                client.socket.send("hello")
        assert client.closed() == consumer.NOT_ALLOWED


# --- who may listen -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?topics=weather", "topics"),
        ("?since=yesterday", "since"),
        ("?task_id=7", "task_id"),
        ("?since=a-1&since=a-2", "since"),
    ],
)
def test_a_wrong_parameter_is_named(listen: Callable[..., Any], query: str, field: str) -> None:
    status, body = refused(listen, query)
    assert (status, body["error_details"]["field"]) == (400, field)


def test_other_names_and_other_sites_are_refused(listen: Callable[..., Any], port: int) -> None:
    status, body = refused(listen, Origin="https://evil.example")
    assert (status, body["error_details"]["field"]) == (403, "Origin")
    with listen(Origin=f"http://127.0.0.1:{port}") as own:
        own.until("snapshot")
    assert _handshake(port, "Host: evil.example").startswith(b"HTTP/1.1 400")
    assert _handshake(port, f"Host: 127.0.0.1:{port}").startswith(b"HTTP/1.1 101")


def _handshake(port: int, *headers: str) -> bytes:
    """The status line of the answer to a handshake with these headers."""

    async def main() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(upgrade_request(*headers))
        answer = await asyncio.wait_for(reader.readline(), DEADLINE_S)
        writer.close()
        return answer

    return asyncio.run(main())


def test_an_allowed_origin_may_listen(listen: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "ALLOWED_ORIGINS", ["https://home.example"])
    with listen(Origin="https://home.example") as client:
        client.until("snapshot")


def test_a_closed_cluster_is_opened_by_key_session_or_ticket_only(
    listen: Callable[..., Any], client: httpx.Client, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "AUTH", "all")
    assert refused(listen)[0] == 401
    assert refused(listen, **{"X-API-Key": "wrong"})[0] == 401
    blind, _ = keys.create("cannot read", [Scope.OPERATE], now=timezone.now())
    assert refused(listen, **{"X-API-Key": blind})[0] == 403
    key, _ = keys.create("reads", [Scope.READ], now=timezone.now())
    with listen(**{"X-API-Key": key}) as by_key, listen(Authorization=f"Bearer {key}") as by_bearer:
        by_key.until("snapshot")
        by_bearer.until("snapshot")
    browser = Client()
    browser.force_login(User.objects.create_user("ann"))
    cookie = f"{settings.SESSION_COOKIE_NAME}={browser.cookies[settings.SESSION_COOKIE_NAME].value}"
    with listen(Cookie=cookie, Origin=f"http://127.0.0.1:{port}") as by_session:
        by_session.until("snapshot")
    assert refused(listen, Cookie=cookie, Origin="https://evil.example")[0] == 403
    ticket = client.post("/api/v1/ws-tickets", headers={"X-API-Key": key}).json()["data"]["ticket"]
    with listen(f"?ticket={ticket}") as by_ticket:
        by_ticket.until("snapshot")
    assert refused(listen, f"?ticket={ticket}")[0] == 401, "once"


def test_a_ticket_is_for_one_origin_and_half_a_minute(
    listen: Callable[..., Any], client: httpx.Client, port: int
) -> None:
    key, _ = keys.create("reads", [Scope.READ], now=timezone.now())

    def ticket(**headers: str) -> str:
        answer = client.post("/api/v1/ws-tickets", headers={"X-API-Key": key, **headers})
        return str(answer.json()["data"]["ticket"])

    own = {"Origin": f"http://127.0.0.1:{port}"}
    status, body = refused(listen, f"?ticket={ticket(**own)}")
    assert (status, "another origin" in body["message"]) == (401, True)
    with listen(f"?ticket={ticket(**own)}", **own) as page:
        page.until("snapshot")
    late = ticket()
    StreamTicket.objects.update(expires_at=timezone.now())
    assert refused(listen, f"?ticket={late}")[0] == 401
    assert refused(listen, "?ticket=")[0] == 401


def test_of_many_who_show_one_ticket_one_gets_in() -> None:
    from concurrent.futures import ThreadPoolExecutor

    from django.db import connection

    ticket, _ = tickets.issue(tickets.Bearer(key_id="k"), origin="", now=timezone.now())

    def redeem(_: int) -> bool:
        try:
            tickets.redeem(ticket, origin="", now=timezone.now())
        except tickets.TicketRefusedError:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(redeem, range(12))) == 1


@pytest.mark.parametrize("shown", ["key", "ticket", "session"])
def test_who_loses_the_right_stops_listening(
    listen: Callable[..., Any], client: httpx.Client, monkeypatch: pytest.MonkeyPatch, shown: str
) -> None:
    monkeypatch.setattr(settings, "AUTH", "all")
    monkeypatch.setattr(consumer, "ASK_AGAIN_S", 0.1)
    monkeypatch.setattr(consumer, "HEARTBEAT_S", 0.05)
    key, row = keys.create("reads", [Scope.READ], now=timezone.now())
    query, headers = "", {"X-API-Key": key}
    user = User.objects.create_user("ann")
    if shown == "ticket":
        query = "?ticket=" + client.post("/api/v1/ws-tickets", headers=headers).json()["data"]["ticket"]
        headers = {}
    elif shown == "session":
        browser = Client()
        browser.force_login(user)
        name = settings.SESSION_COOKIE_NAME
        headers = {"Cookie": f"{name}={browser.cookies[name].value}"}
    with listen(query, **headers) as follower:
        follower.until("snapshot")
        for _ in range(5):
            follower.until("heartbeat")  # asked again meanwhile, and allowed
        if shown == "session":
            user.is_active = False
            user.save()
        else:
            keys.revoke(row.pk, now=timezone.now(), actor=SYSTEM)
        assert follower.closed() == consumer.UNAUTHORIZED


def test_a_plain_request_is_told_what_this_is(client: httpx.Client) -> None:
    answer = client.get("/ws")
    assert answer.status_code == 426
    assert answer.headers["Upgrade"] == "websocket"
    assert answer.json()["error_code"] == "UPGRADE_REQUIRED"
