"""Retire-Cluster's two shapes as their documentation starts them, each with agents that stand ready."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import psycopg

from retire_cluster.torture import redis_server
from retire_cluster.torture.processes import environment, free_port

BIN = Path(sys.executable).parent
START_S = 60.0
STOP_S = 15.0
BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}  # compiled modules are kept, as an installed package has them
KEPT_S = 1.0  # gunicorn closes a connection that was idle for 2 s


class CannotStart(RuntimeError):
    """A process did not come up; the message says where to look."""


def until(condition: Callable[[], bool], what: str, seconds: float = START_S) -> None:
    """Raises CannotStart."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise CannotStart(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.02)


class Program:
    """A process with its output in a file; ended by `stop`."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**environment(), **BYTECODE, **variables},
                start_new_session=True,
            )
        self.pid, self.log = self._process.pid, log

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL for it and whatever it started in its group."""
        if self.alive:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    def stop(self) -> None:
        if self.alive:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()


class Api:
    """One kept HTTP connection to a server of ours. Not for several threads."""

    def __init__(self, port: int, key: str = "") -> None:
        self.port = port
        self._headers = {"Content-Type": "application/json", **({"X-API-Key": key} if key else {})}
        self._connection = HTTPConnection("127.0.0.1", port, timeout=120)
        self._used_at = time.monotonic()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's `data`. Raises RuntimeError with the answer's own words for anything but a 2xx."""
        text = None if body is None else json.dumps(body)
        status, answer = self.raw(method, path, text)
        if not 200 <= status < 300:
            raise RuntimeError(f"{method} {path}: {status} {answer[:300]!r}")
        return json.loads(answer)["data"]

    def raw(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        """Status and body; `path` is below /api/v1/."""
        if time.monotonic() - self._used_at > KEPT_S:
            self._connection.close()
        self._connection.request(method, f"/api/v1/{path}", body, self._headers)
        answer = self._connection.getresponse()
        text = answer.read()
        self._used_at = time.monotonic()
        return answer.status, text

    def close(self) -> None:
        self._connection.close()


class Ours(ABC):
    """What both shapes have. `roots` are the processes whose trees count as its cost."""

    name = ""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.data_dir = directory / "server"
        self.port, self.gateway_port = free_port(), free_port()
        self.programs: list[Program] = []

    @property
    def roots(self) -> list[int]:
        return [program.pid for program in self.programs]

    @property
    def key(self) -> str:
        return (self.data_dir / "api-key").read_text().strip()

    @property
    def token(self) -> str:
        return (self.data_dir / "join-token").read_text().strip()

    @property
    def variables(self) -> Mapping[str, str]:
        return {}

    def api(self) -> Api:
        return Api(self.port, self.key)

    @abstractmethod
    def start(self) -> None:
        """Every process but the agents; returns once the API answers."""

    def launch(self, name: str, *command: str | Path) -> Program:
        """Start a program of this cluster."""
        program = Program(command, self.directory / f"{name}.log", self.variables)
        self.programs.append(program)
        return program

    def join(self, name: str, *flags: str) -> Program:
        """Start an agent and wait until it is online."""
        where = ("--join", f"127.0.0.1:{self.gateway_port}", "--token", self.token)
        own = ("--data-dir", str(self.directory / name), "--device-id", name)
        agent = self.launch(name, BIN / "retire-cluster-worker", *where, *own, *flags)
        api = self.api()
        until(lambda: api.raw("GET", f"devices/{name}")[0] == 200, f"{name} to join; see {agent.log}")
        api.close()
        return agent

    @abstractmethod
    def rows(self, sql: str, first: str) -> list[tuple[Any, ...]]:
        """What the database says to a question with the task id `{first}` in it; ids are hexadecimal digits."""

    def stop(self) -> None:
        for program in reversed(self.programs):
            program.stop()

    def _healthy(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


class Embedded(Ours):
    """`retire-cluster-api`: one process on SQLite."""

    name = "ours, embedded (SQLite)"

    def start(self) -> None:
        where = ("--port", str(self.port), "--cluster-port", str(self.gateway_port))
        flags = ("--data-dir", str(self.data_dir), "--no-local-node", "--no-rate-limit", "--embedded")
        server = self.launch("server", BIN / "retire-cluster-api", *where, *flags)
        until(self._healthy, f"the server; see {server.log}")

    def rows(self, sql: str, first: str) -> list[tuple[Any, ...]]:
        database = sqlite3.connect(f"file:{self.data_dir / 'retire-cluster.sqlite3'}?mode=ro", uri=True)
        with closing(database):
            return database.execute(sql.format(first=":first"), {"first": UUID(first).hex}).fetchall()


class Production(Ours):
    """PostgreSQL, Redis, gunicorn, one gateway, a Celery worker. `database` is PostgreSQL's URL, `database_pid` its
    first process."""

    name = "ours (PostgreSQL)"

    def __init__(self, directory: Path, database: str, database_pid: int, *, threads: int = 8) -> None:
        super().__init__(directory)
        self.data_dir.mkdir(exist_ok=True)
        self.database, self._database_pid, self._threads = database, database_pid, threads
        self.redis_port = free_port()

    @property
    def roots(self) -> list[int]:
        return [*super().roots, self._database_pid]

    @property
    def variables(self) -> Mapping[str, str]:
        return {
            "RETIRE_CLUSTER_DATABASE_URL": self.database,
            "RETIRE_CLUSTER_REDIS_URL": f"redis://127.0.0.1:{self.redis_port}/0",
            "RETIRE_CLUSTER_DATA_DIR": str(self.data_dir),
            "RETIRE_CLUSTER_CLUSTER_PORT": str(self.gateway_port),
            "RETIRE_CLUSTER_RATE_LIMITS": "off",
        }

    def start(self) -> None:
        quiet = ("--save", "", "--dir", str(self.directory), "--bind", "127.0.0.1")
        self.launch("redis", redis_server.executable(), "--port", str(self.redis_port), *quiet)
        migrate = self.launch("migrate", BIN / "retire-cluster-manage", "migrate", "--verbosity", "0")
        until(lambda: not migrate.alive, "the migration")
        self.programs.remove(migrate)
        self.start_gateway()
        threads = ("-w", "1", "--threads", str(self._threads))
        self.launch(
            "web", BIN / "gunicorn", *threads, "-b", f"127.0.0.1:{self.port}", "retire_cluster.api.wsgi:app"
        )
        celery = (BIN / "celery", "-A", "retire_cluster", "worker", "-c", "1", "-l", "WARNING")
        self.launch("celery", *celery)
        until(self._healthy, f"the API; see {self.directory}")

    def rows(self, sql: str, first: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database) as database:
            found = database.execute(sql.format(first="%(first)s").encode(), {"first": UUID(first)})
            return [tuple(value.hex if isinstance(value, UUID) else value for value in row) for row in found]

    def start_gateway(self) -> Program:
        where = ("--host", "127.0.0.1", "--port", str(self.gateway_port), "--data-dir", str(self.data_dir))
        gateway = self.launch("gateway", BIN / "retire-cluster-main", *where)
        until(lambda: (self.data_dir / "join-token").exists(), f"the gateway; see {gateway.log}")
        return gateway
