"""A Celery worker on a Redis of its own, for the scenarios about starts, idleness and crashes."""

import os
from pathlib import Path

from benchmarks.harness import venvs
from benchmarks.harness.ours import Program, until
from benchmarks.harness.talking import Talker
from retire_cluster.torture import redis_server
from retire_cluster.torture.processes import free_port

ENVIRONMENT = "celery_redis"  # whose pins are used
PEER = "celery_edge"
NAME = "Celery + Redis"


class CeleryEdge:
    """Redis at once; workers and a client when asked for. Raises NotInstallable."""

    def __init__(self, directory: Path, cache: Path) -> None:
        self.python = venvs.python_of(ENVIRONMENT, cache)
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._port = free_port()
        self._programs: list[Program] = []
        self._clients: list[Talker] = []
        quiet = ("--save", "", "--dir", str(directory), "--bind", "127.0.0.1", "--port", str(self._port))
        self._programs.append(Program([redis_server.executable(), *quiet], directory / "redis.log"))

    @property
    def _variables(self) -> dict[str, str]:
        places = os.pathsep.join((str(venvs.PEERS), str(venvs.PEERS / PEER)))
        return {"REDIS_URL": f"redis://127.0.0.1:{self._port}/0", "PYTHONPATH": places}

    def worker(self, name: str = "worker") -> Program:
        """Start a worker with one process for tasks; it may not serve yet."""
        app = ("-m", "celery", "-A", "app", "worker", "-l", "INFO")
        command = [str(self.python), *app, "-c", "1", "-n", f"{name}@here"]
        worker = Program(command, self._directory / f"{name}.log", self._variables)
        self._programs.append(worker)
        return worker

    def await_ready(self, name: str = "worker") -> None:
        """Raises CannotStart."""
        log = self._directory / f"{name}.log"
        until(lambda: " ready." in log.read_text(errors="replace"), f"Celery's worker; see {log}")

    def client(self) -> Talker:
        command = [self.python, venvs.PEERS / PEER / "client.py"]
        client = Talker(PEER, command, self._directory / "client.log", self._variables)
        self._clients.append(client)
        return client

    def stop(self) -> None:
        for client in self._clients:
            client.stop()
        for program in reversed(self._programs):
            program.kill()
