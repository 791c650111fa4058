"""Real sockets and processes: a flood beside honest work, sockets that never register, a copied data directory."""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from retire_cluster.agent.errors import ExitCode
from retire_cluster.gateway.guard import MAX_FAILED_JOINS, MAX_UNREGISTERED
from tests.e2e.cluster import Cluster, running, until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("cluster"), "--no-local-node") as found:
        yield found


@pytest.fixture
def cluster(server: Cluster) -> Iterator[Cluster]:
    """A server without devices."""
    yield server
    server.end_agents()


def dial(cluster: Cluster) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{cluster.gateway_port}/node", compression=None, max_size=None)


def register(device_id: str, token: str) -> str:
    message = {
        "type": "register",
        "protocol": 1,
        "device_id": device_id,
        "run_id": uuid4().hex,
        "agent_version": "1",
        "capabilities": {"platform": "linux"},
        "join_token": token,
    }
    return json.dumps([message])


def last_words(peer: ClientConnection) -> dict[str, Any]:
    """What the gateway said before it closed the connection."""
    last: dict[str, Any] = {}
    try:
        while True:
            last = json.loads(peer.recv(timeout=30))[-1]
    except ConnectionClosed:
        return last


def test_a_device_that_floods_is_cut_off_while_another_works(cluster: Cluster) -> None:
    honest = cluster.join("honest")
    cluster.online("honest")
    token = (cluster.data_dir / "join-token").read_text().strip()
    frame = json.dumps([{"type": "stopped", "attempts": [uuid4().hex for _ in range(4000)]}])
    with dial(cluster) as flooder:
        flooder.send(register("flooder", token))
        assert json.loads(flooder.recv(timeout=30))[0]["type"] == "welcome"
        task_id = cluster.submit("echo", {"n": 1})
        sent = 0
        with pytest.raises(ConnectionClosed):
            while sent < 500:
                flooder.send(frame)
                sent += 1
        words = last_words(flooder)
    assert (words["type"], words["code"]) == ("goodbye", "protocol_error")
    assert "rows a second" in words["reason"]
    assert cluster.ended(task_id)["assigned_device_id"] == "honest"
    until(
        lambda: "cut off" in cluster.get("devices/flooder")["status_reason"],
        "the reason on the device's page",
    )
    assert honest.alive()


def test_strangers_fill_neither_the_door_for_others_nor_the_server(cluster: Cluster) -> None:
    with ExitStack() as stack:
        for _ in range(MAX_UNREGISTERED):
            stack.enter_context(dial(cluster))
        with pytest.raises((ConnectionClosed, InvalidStatus)):
            dial(cluster).recv(timeout=30)
    cluster.join("patient")  # they are gone, and the door is open again
    cluster.online("patient")


def test_who_never_registers_is_sent_away(cluster: Cluster) -> None:
    with dial(cluster) as silent:
        assert "no registration within" in last_words(silent)["reason"]


def test_tokens_cannot_be_tried_one_after_another(tmp_path: Path) -> None:
    with running(tmp_path, "--no-local-node") as cluster:  # of its own: nobody from here joins for a while
        for _ in range(MAX_FAILED_JOINS):
            with dial(cluster) as guesser:
                guesser.send(register("guesser", "rcj1_wrong"))
                assert last_words(guesser)["code"] == "bad_token"
        with pytest.raises((ConnectionClosed, InvalidStatus)):
            dial(cluster).recv(timeout=30)


def test_a_copied_data_directory_is_refused_and_its_original_stays(cluster: Cluster) -> None:
    original = cluster.join("pi")
    cluster.online("pi")
    until(lambda: stored(cluster, "pi") == 1, "the first link number")
    original.kill()
    shutil.copytree(cluster.directory / "pi", cluster.directory / "copy")
    for number in range(2, 6):  # killed as soon as the number is on its disk, confirmed or not
        original = cluster.join("pi")
        until(lambda: stored(cluster, "pi") == number, "the next link number")  # noqa: B023 used at once
        if number < 5:
            original.kill()
    cluster.online("pi")

    shutil.move(cluster.directory / "pi", cluster.directory / "pi-original")
    shutil.move(cluster.directory / "copy", cluster.directory / "pi")
    copy = cluster.join("pi")

    assert copy.wait() == ExitCode.CLONED
    assert "--device-id" in copy.said()
    device = cluster.get("devices/pi")
    assert (device["status"], original.alive()) == ("online", True)


def stored(cluster: Cluster, device_id: str) -> int:
    """The link number in the agent's file; 0 before there is one."""
    try:
        text = (cluster.directory / device_id / "agent" / "agent.json").read_text()
    except FileNotFoundError:
        return 0
    number: int = json.loads(text)["link_no"]
    return number
