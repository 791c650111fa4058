"""Real processes: a server and agents in directories of their own, on ports nobody else has."""

import atexit
import contextlib
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx

BIN = Path(sys.executable).parent
PATIENCE_S = 60.0
INTERRUPTED_S = 15.0  # our clients ask with ?wait=20: a server that let them finish would be found out
DATABASE = "retire-cluster.sqlite3"


def free_port() -> int:
    """A port that is free on every address, below those that outgoing connections are given meanwhile."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("0.0.0.0", port))
            return port


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_S) -> Any:
    """The first true value of the condition. Fails with what was waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            found = condition()
        except httpx.HTTPError:
            found = None
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds:g} s in vain for {what}")


def clean_environment() -> dict[str, str]:
    """This process's environment without settings of ours, and without those the tests run under."""
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("RETIRE_CLUSTER_", "DJANGO_", "PYTEST_"))
    }


@cache
def migrated_database() -> Path:
    """An empty database file, made once for all clusters of this process: migrating takes as long as starting."""
    directory = tempfile.TemporaryDirectory(prefix="retire-cluster-migrated-")
    atexit.register(directory.cleanup)
    environment = {**clean_environment(), "RETIRE_CLUSTER_DATA_DIR": directory.name}
    command = (BIN / "retire-cluster-manage", "migrate", "--verbosity", "0")
    subprocess.run(command, env=environment, check=True)
    return Path(directory.name) / DATABASE


class Process:
    """One of our commands, its output in a file."""

    def __init__(
        self,
        output: Path,
        command: str | Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.output = output
        with output.open("ab") as stream:
            self._process = subprocess.Popen(
                [BIN / command, *arguments],
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env=clean_environment() if environment is None else environment,
            )
        self.pid = self._process.pid

    def said(self) -> str:
        return self.output.read_text()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit code. Raises TimeoutExpired sooner than any caller that waits gives up."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(INTERRUPTED_S)

    def terminate(self) -> int:
        """SIGTERM, as a service manager stops it; returns the exit code."""
        self.send_signal(signal.SIGTERM)
        return self._process.wait(PATIENCE_S)

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float = PATIENCE_S) -> int:
        return self._process.wait(seconds)

    def alive(self) -> bool:
        return self._process.poll() is None


class Cluster:
    """A server with its API client; agents join it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.directory.mkdir(exist_ok=True)
        self.variables: dict[str, str] = {}  # for every process
        self.lives = 1  # another one is another data directory
        self.first_start = False  # of a server there: it migrates an empty data directory itself
        self.port, self.gateway_port = free_port(), free_port()
        self.api = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=70)
        self.processes: list[Process] = []
        self._agents: list[Process] = []

    def start(self, *flags: str) -> Process:
        """Start the server and wait until it is healthy."""
        self._provide_database()
        arguments = ("--port", str(self.port), "--cluster-port", str(self.gateway_port), "--no-rate-limit")
        self.server = self._spawn(
            "server", "retire-cluster-api", *arguments, "--data-dir", str(self.data_dir), *flags
        )
        until(lambda: self.api.get("/health").status_code == 200, "the server's health")
        return self.server

    @property
    def data_dir(self) -> Path:
        return self.directory / f"server-data-{self.lives}"

    def _provide_database(self) -> None:
        if self.first_start or (self.data_dir / DATABASE).exists():
            return
        self.data_dir.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(migrated_database(), self.data_dir)

    def start_gateway(self, *flags: str) -> Process:
        """Start a gateway alone and wait until it listens."""
        self._provide_database()
        where = ("--host", "127.0.0.1", "--port", str(self.gateway_port), "--data-dir", str(self.data_dir))
        gateway = self._spawn("gateway", "retire-cluster-main", *where, *flags)
        address = f"http://127.0.0.1:{self.gateway_port}/node/health"
        until(lambda: httpx.get(address).status_code == 200, "the gateway's health")
        return gateway

    def join(self, device_id: str, *flags: str, token: str = "") -> Process:
        """Start an agent with the token the server left for local tools."""
        token = token or (self.data_dir / "join-token").read_text().strip()
        where = ("--join", f"127.0.0.1:{self.gateway_port}", "--data-dir", str(self.directory / device_id))
        agent = self._spawn(
            f"{device_id}-{len(self._agents) + 1}",
            "retire-cluster-worker",
            *where,
            "--device-id",
            device_id,
            "--token",
            token,
            *flags,
        )
        self._agents.append(agent)
        return agent

    def end_agents(self) -> None:
        """Leave the server alone, for the next test."""
        for agent in self._agents:
            agent.kill()
        until(lambda: not self.get("devices?status=online"), "all devices to be offline")

    def _spawn(self, name: str, command: str, *arguments: str) -> Process:
        environment = {**clean_environment(), **self.variables}
        process = Process(self.directory / f"{name}.log", command, *arguments, environment=environment)
        self.processes.append(process)
        return process

    def get(self, path: str) -> Any:
        answer = self.api.get(f"/api/v1/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def submit(self, task_type: str = "echo", payload: dict[str, Any] | None = None, **more: Any) -> str:
        body = {"task_type": task_type, "payload": payload or {}, **more}
        answer = self.api.post("/api/v1/tasks", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["data"]["task_id"])

    def online(self, device_id: str) -> None:
        until(
            lambda: any(item["device_id"] == device_id for item in self.get("devices?status=online")),
            f"{device_id} to be online",
        )

    def ended(self, task_id: str) -> Any:
        """The task's details once it is terminal."""
        until(lambda: self.get(f"tasks/{task_id}/status?wait=20")["is_terminal"], f"the end of {task_id}")
        return self.get(f"tasks/{task_id}")

    def stop(self) -> None:
        self.api.close()
        for process in self.processes:
            if process.alive():
                process.kill()


@contextmanager
def running(directory: Path, *flags: str, first_start: bool = False) -> Iterator[Cluster]:
    cluster = Cluster(directory)
    cluster.first_start = first_start
    try:
        cluster.start(*flags)
        yield cluster
    finally:
        cluster.stop()


def join_line(said: str) -> str:
    """The join line a server printed."""
    found = re.search(r"RETIRE_CLUSTER_JOIN_TOKEN=\S+ python3 .*", said)
    assert found, said
    return found[0]


def token_in(line: str) -> str:
    """The token of a join line."""
    return shlex.split(line)[0].partition("=")[2]
