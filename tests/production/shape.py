"""The production shape on one machine: PostgreSQL, Redis, several of each process; agents know all gateways."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import redis

from retire_cluster.torture.redis_server import executable
from tests import postgres
from tests.e2e.cluster import Cluster, Process, clean_environment, free_port, until


class Production(Cluster):
    """`api` talks to gunicorn, `other_api` to uvicorn."""

    def __init__(self, directory: Path, database_url: str, redis_url: str) -> None:
        super().__init__(directory)
        self.variables = {
            "RETIRE_CLUSTER_DATABASE_URL": database_url,
            "RETIRE_CLUSTER_REDIS_URL": redis_url,
            "RETIRE_CLUSTER_DATA_DIR": str(self.data_dir),
            "RETIRE_CLUSTER_CLUSTER_PORT": str(self.gateway_port),
            "RETIRE_CLUSTER_RATE_LIMITS": "off",
        }
        self.other_port, self.other_gateway_port = free_port(), free_port()
        self.other_api = httpx.Client(base_url=f"http://127.0.0.1:{self.other_port}", timeout=70)
        self.gateways: list[Process] = []

    def start_all(self) -> None:
        """Every process, and wait until all of them serve."""
        self._run("retire-cluster-manage", "migrate")
        for port in (self.gateway_port, self.other_gateway_port):
            self.gateways.append(self.start_one_gateway(port))
        where = f"127.0.0.1:{self.port}"
        self._spawn("gunicorn", "gunicorn", "-w", "2", "-b", where, "retire_cluster.api.wsgi:app")
        here = ("--port", str(self.other_port))
        self._spawn("uvicorn", "uvicorn", *here, "retire_cluster.asgi:application")
        for number in (1, 2):
            name = f"worker-{number}@here"
            celery = ("-A", "retire_cluster", "worker", "-c", "1", "-n", name, "-l", "INFO")
            self._spawn(f"celery-{number}", "celery", *celery)
        schedule = str(self.directory / "beat-schedule")
        self._spawn("beat", "celery", "-A", "retire_cluster", "beat", "-s", schedule)
        for client in (self.api, self.other_api):
            until(lambda client=client: client.get("/health").status_code == 200, "an API process")  # type: ignore[misc]
            key = (self.data_dir / "api-key").read_text().strip()
            client.headers["X-API-Key"] = key

    def start_one_gateway(self, port: int) -> Process:
        where = ("--host", "127.0.0.1", "--port", str(port), "--data-dir", str(self.data_dir))
        gateway = self._spawn(f"gateway-{port}", "retire-cluster-main", *where)
        address = f"http://127.0.0.1:{port}/node/health"
        until(lambda: httpx.get(address).status_code == 200, "a gateway")
        return gateway

    def join_all(self, *names: str) -> None:
        """Agents that know both gateways, beginning with one or the other."""
        for number, name in enumerate(names):
            first, second = self.gateway_port, self.other_gateway_port
            ports = (first, second) if number % 2 == 0 else (second, first)
            token = (self.data_dir / "join-token").read_text().strip()
            flags = [flag for port in ports for flag in ("--join", f"127.0.0.1:{port}")]
            own = ("--data-dir", str(self.directory / name), "--device-id", name, "--token", token)
            self._spawn(name, "retire-cluster-worker", *flags, *own)
        for name in names:
            self.online(name)

    def _run(self, command: str, *arguments: str) -> None:
        done = Process(
            self.directory / "command.log",
            command,
            *arguments,
            environment={**clean_environment(), **self.variables},
        )
        assert done.wait() == 0, done.said()

    def stop(self) -> None:
        self.other_api.close()
        super().stop()


@contextmanager
def redis_server(directory: Path) -> Iterator[str]:
    """A Redis on a port of its own; its URL."""
    port = free_port()
    where = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", ""]
    with (directory / "redis.log").open("wb") as log:
        process = subprocess.Popen([executable(), *where], stdout=log, stderr=log)
    try:
        with redis.Redis(port=port) as client:
            until(lambda: _answers(client), "Redis")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait()


def _answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@contextmanager
def running(directory: Path) -> Iterator[Production]:
    with ExitStack() as stack:
        database_url = stack.enter_context(postgres.server())
        redis_url = stack.enter_context(redis_server(directory))
        found = Production(directory / "cluster", database_url, redis_url)
        stack.callback(found.stop)
        found.data_dir.mkdir(parents=True)
        found.start_all()
        yield found
