"""A Celery worker on a Redis of its own, for the scenarios about starts, idleness and crashes."""

from pathlib import Path

from benchmarks.harness import venvs
from benchmarks.harness.ours import Program, until
from benchmarks.harness.peers import Client
from retire_cluster.torture import redis_server
from retire_cluster.torture.processes import free_port

ENVIRONMENT = "celery_redis"  # whose pins are used
PEER = "celery_edge"
NAME = "Celery + Redis"


class CeleryEdge:
    """Redis at once; workers and a client when asked for. Raises NotInstallable."""

    def __init__(self, directory: Path, cache: Path) -> None:
        if not (venvs.PEERS / ENVIRONMENT / "requirements.txt").exists():
            raise venvs.NotInstallable(f"there is no benchmarks/peers/{ENVIRONMENT}")
        self.python = venvs.python_of(ENVIRONMENT, cache)
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._port = free_port()
        self._programs: list[Program] = []
        self._clients: list[Client] = []
        quiet = ("--save", "", "--dir", str(directory), "--bind", "127.0.0.1", "--port", str(self._port))
        self._programs.append(Program([redis_server.executable(), *quiet], directory / "redis.log"))

    @property
    def _variables(self) -> dict[str, str]:
        return {"REDIS_URL": f"redis://127.0.0.1:{self._port}/0"}

    def worker(self, name: str = "worker") -> Program:
        """Start a worker with one process for tasks; it may not serve yet."""
        command = [
            str(self.python),
            "-m",
            "celery",
            "-A",
            "app",
            "worker",
            "-c",
            "1",
            "-n",
            f"{name}@here",
            "-l",
            "INFO",
        ]
        where = {"PYTHONPATH": str(venvs.PEERS / PEER), **self._variables}
        worker = Program(command, self._directory / f"{name}.log", where)
        self._programs.append(worker)
        return worker

    def await_ready(self, name: str = "worker") -> None:
        """Raises CannotStart."""
        log = self._directory / f"{name}.log"
        until(lambda: " ready." in log.read_text(errors="replace"), f"Celery's worker; see {log}")

    def client(self) -> Client:
        client = Client(PEER, self.python, self._directory / "client.log", self._variables)
        self._clients.append(client)
        return client

    def stop(self) -> None:
        for client in self._clients:
            client.stop()
        for program in reversed(self._programs):
            program.kill()
