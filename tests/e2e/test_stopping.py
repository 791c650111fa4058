"""Stopping: within five seconds, whoever waits, and nothing stays behind."""

import os
import signal
import socket
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e import sending
from tests.e2e.cluster import Cluster, Process, clean_environment, free_port, running, until

ROOT = Path(__file__).parents[2]
WITHIN_S = 5.0  # the contract's


def stop(process: Process, how: signal.Signals) -> int:
    """Send the signal; the exit code. Raises TimeoutExpired when it takes too long."""
    os.kill(process.pid, how)
    return process.wait(WITHIN_S)


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def waiting_client(cluster: Cluster) -> threading.Thread:
    """A client that waits for a task which will not end in time."""
    task = cluster.submit("sleep", {"duration": 60})

    def wait() -> None:
        try:
            httpx.get(f"http://127.0.0.1:{cluster.port}/api/v1/tasks/{task}/status?wait=30", timeout=40)
        except httpx.HTTPError:
            return  # its connection may be cut: the server goes away

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_busy_server_stops_in_time_and_leaves_nothing_behind(how: signal.Signals, tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        (server,) = cluster.processes
        agent = cluster.join("helper", "--slots", "4")
        cluster.online("helper")
        for _ in range(50):
            cluster.submit("sleep", {"duration": 20})
        clients = [waiting_client(cluster) for _ in range(3)]
        until(
            lambda: cluster.get("tasks?status=running&page_size=1"), "tasks to run"
        )  # and cluster.api keeps a connection open
        children = psutil.Process(server.pid).children(recursive=True)

        assert stop(server, how) == 0

        assert [child for child in children if child.is_running()] == []
        assert refused(cluster.port)
        assert refused(cluster.gateway_port)
        assert agent.alive()  # it waits for the server to come back
        for client in clients:
            client.join(WITHIN_S)
            assert not client.is_alive()


def test_after_a_stop_the_database_is_whole_in_its_one_file(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        (server,) = cluster.processes
        task = cluster.submit()
        cluster.ended(task)
        log = cluster.data_dir / "retire-cluster.sqlite3-wal"
        assert log.stat().st_size > 0
        assert stop(server, signal.SIGINT) == 0
        assert not log.exists() or log.stat().st_size == 0
        copy = tmp_path / "copy.sqlite3"
        copy.write_bytes((cluster.data_dir / "retire-cluster.sqlite3").read_bytes())
        with closing(sqlite3.connect(copy)) as database:
            assert database.execute("SELECT status FROM tasks_task").fetchall() == [("success",)]


def test_the_gateway_alone_stops_as_quickly(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    cluster.first_start = True
    try:
        gateway = cluster.start_gateway()
        cluster.join("helper")
        devices = f"http://127.0.0.1:{cluster.gateway_port}/api/v1/devices?status=online"  # the same API
        until(lambda: httpx.get(devices).json()["data"], "the agent to be connected")
        assert stop(gateway, signal.SIGINT) == 0
        assert refused(cluster.gateway_port)
    finally:
        cluster.stop()


def test_an_idle_agent_stops_quickly_without_a_server(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    cluster.gateway_port = free_port()
    try:
        agent = cluster.join("alone", token="rcj1_" + "0" * 16 + "_" + "0" * 64)
        until(lambda: "next try" in agent.said(), "its first failed try")
        assert stop(agent, signal.SIGTERM) == 0
    finally:
        cluster.stop()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_beat_of_its_own_stops_in_the_midst_of_sending(how: signal.Signals, tmp_path: Path) -> None:
    variables = {"RETIRE_CLUSTER_DATA_DIR": str(tmp_path), "RETIRE_CLUSTER_BROKER_URL": "redis://127.0.0.1:1"}
    beat = Process(
        tmp_path / "beat.log",
        "celery",
        *("-A", "retire_cluster", "beat", "-s", str(tmp_path / "schedule")),
        *("-S", "tests.e2e.sending:Sending"),
        environment={**clean_environment(), **variables, "PYTHONPATH": str(ROOT)},
        directory=tmp_path,
    )
    try:
        until(lambda: sending.SENDS in beat.said(), "it to send")
        assert stop(beat, how) == 0
    finally:
        beat.kill()
