"""`/ws` in the production shape: whoever listens, at whatever process, hears the same, once and in order."""

import contextlib
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.e2e.cluster import until
from tests.production.shape import Production, running

AGENTS = ("attic", "cellar")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    with running(tmp_path_factory.mktemp("live")) as found:
        found.join_all(*AGENTS)
        yield found


class Follower(threading.Thread):
    """Keeps what one connection is told."""

    def __init__(self, connection: ClientConnection) -> None:
        super().__init__(daemon=True)
        self._connection = connection
        self.frames: list[dict[str, Any]] = []
        self.start()

    def run(self) -> None:
        with contextlib.suppress(ConnectionClosed):  # its gateway was killed
            for text in self._connection:
                self.frames.append(json.loads(text))

    def events(self) -> list[dict[str, Any]]:
        return [frame for frame in list(self.frames) if "." in frame["type"]]

    def ended(self) -> set[str]:
        """Tasks it heard the end of."""
        return {event["data"]["task_id"] for event in self.events() if event["type"] == "task.finished"}


def test_everybody_hears_what_any_process_does_once_and_in_order(cluster: Production) -> None:
    ports = (cluster.other_port, cluster.gateway_port, cluster.other_gateway_port)
    with ExitStack() as stack:
        followers = []
        for port in ports:
            line = stack.enter_context(connect(f"ws://127.0.0.1:{port}/ws", proxy=None))
            followers.append(Follower(line))
        until(lambda: all(follower.frames for follower in followers), "the snapshots")
        start = max(follower.frames[0]["seq"] for follower in followers)
        tasks = [cluster.submit("echo", {"n": number}) for number in range(20)]  # by gunicorn
        answer = cluster.other_api.post("/api/v1/devices/attic/cordon", json={"reason": "by uvicorn"})
        assert answer.status_code == 200, answer.text
        assert cluster.other_api.post("/api/v1/devices/attic/uncordon", json={}).status_code == 200
        assert cluster.api.put("/api/v1/config/heartbeat", json={"interval": 20}).status_code == 200
        cluster.gateways[0].kill()  # its devices move to the other one, and its own listener is cut off
        rest = [followers[0], followers[2]]
        until(lambda: all(follower.ended() >= set(tasks) for follower in rest), "the end of every task")
        until(
            lambda: all(
                any(event["type"] == "cluster.gateway_stopped" for event in follower.events())
                for follower in rest
            ),
            "everybody to hear that the gateway died",
        )
        until(lambda: rest[0].events()[-1]["seq"] == rest[1].events()[-1]["seq"], "both to be as far")
        for follower in followers:
            numbers = [event["seq"] for event in follower.events()]
            assert numbers == list(range(follower.frames[0]["seq"] + 1, numbers[-1] + 1))
        told = [[event for event in follower.events() if event["seq"] > start][:50] for follower in rest]
        assert told[0] == told[1]
        kinds = {event["type"] for event in rest[0].events()}
        assert {"task.submitted", "device.changed", "config.changed", "task.finished"} <= kinds


def test_who_changes_the_process_goes_on_where_it_was(cluster: Production) -> None:
    with connect(f"ws://127.0.0.1:{cluster.other_port}/ws", proxy=None) as first:
        place = json.loads(first.recv(timeout=60))["cursor"]
    task = cluster.submit("echo", {"while": "away"})
    cluster.ended(task)
    address = f"ws://127.0.0.1:{cluster.other_gateway_port}/ws?since={place}&task_id={task}"
    with connect(address, proxy=None) as second:
        frames = [json.loads(second.recv(timeout=60))]
        while frames[-1]["type"] != "task.finished":
            frames.append(json.loads(second.recv(timeout=60)))
    assert frames[0]["type"] == "resumed"
    kinds = [frame["type"] for frame in frames[1:]]
    assert kinds[0] == "task.submitted"
    assert kinds[-1] == "task.finished"
    assert len(kinds) == len(set(kinds)), "each once"
