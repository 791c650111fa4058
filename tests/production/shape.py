"""The production shape on one machine: PostgreSQL, Redis, several of each process; agents know all gateways."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from tests import postgres
from tests.e2e.cluster import Cluster, Process, clean_environment, free_port, until
from tests.redis.server import RedisServer

START_S = 180.0  # all start at the same time, perhaps beside other tests


class Production(Cluster):
    """`api` talks to gunicorn, `other_api` to uvicorn."""

    def __init__(self, directory: Path, database: postgres.Server, redis: RedisServer | None) -> None:
        super().__init__(directory)
        self.database, self._redis = database, redis
        self.variables = {
            "RETIRE_CLUSTER_DATABASE_URL": database.url,
            "RETIRE_CLUSTER_REDIS_URL": redis.url if redis else "",
            "RETIRE_CLUSTER_DATA_DIR": str(self.data_dir),
            "RETIRE_CLUSTER_CLUSTER_PORT": str(self.gateway_port),
            "RETIRE_CLUSTER_RATE_LIMITS": "off",
        }
        self.other_port, self.other_gateway_port = free_port(), free_port()
        self.other_api = httpx.Client(base_url=f"http://127.0.0.1:{self.other_port}", timeout=70)
        self.gateways: list[Process] = []
        self.gunicorn_threads = 1

    @property
    def redis(self) -> RedisServer:
        assert self._redis is not None, "this cluster has none"
        return self._redis

    def start_all(self) -> None:
        """Every process, and wait until all of them serve."""
        self.start_gateways()
        self.start_celery()
        self.start_apis()

    def start_gateways(self) -> None:
        """Migrate, and start both at once."""
        self.run("retire-cluster-manage", "migrate")
        ports = (self.gateway_port, self.other_gateway_port)
        self.gateways = [self._spawn_gateway(port) for port in ports]
        for port in ports:
            self._gateway_serves(port)

    def start_celery(self) -> None:
        """Two workers and beat."""
        for number in (1, 2):
            self.start_worker(number)
        self.start_beat()

    def start_apis(self) -> None:
        """gunicorn and uvicorn; wait until both serve."""
        self.start_gunicorn()
        self.start_uvicorn()
        for client in (self.api, self.other_api):
            self.serves(client)
            client.headers["X-API-Key"] = self.key

    @property
    def key(self) -> str:
        return (self.data_dir / "api-key").read_text().strip()

    @property
    def token(self) -> str:
        return (self.data_dir / "join-token").read_text().strip()

    def named(self, name: str) -> Process:
        """The last process started under that name."""
        return [process for process in self.processes if process.output.stem == name][-1]

    @staticmethod
    def serves(client: httpx.Client) -> None:
        until(lambda: client.get("/health").status_code == 200, "an API process", START_S)

    def start_gunicorn(self) -> Process:
        flags = ("-w", "2", "--threads", str(self.gunicorn_threads), "-b", f"127.0.0.1:{self.port}")
        return self._spawn("gunicorn", "gunicorn", *flags, "retire_cluster.api.wsgi:app")

    def start_uvicorn(self) -> Process:
        here = ("--port", str(self.other_port))
        return self._spawn("uvicorn", "uvicorn", *here, "retire_cluster.asgi:application")

    def start_worker(self, number: int) -> Process:
        celery = ("-A", "retire_cluster", "worker", "-c", "1", "-n", f"worker-{number}@here", "-l", "INFO")
        return self._spawn(f"celery-{number}", "celery", *celery)

    def start_beat(self) -> Process:
        schedule = str(self.directory / "beat-schedule")
        return self._spawn("beat", "celery", "-A", "retire_cluster", "beat", "-s", schedule, "-l", "INFO")

    def start_one_gateway(self, port: int) -> Process:
        gateway = self._spawn_gateway(port)
        self._gateway_serves(port)
        return gateway

    def _spawn_gateway(self, port: int) -> Process:
        where = ("--host", "127.0.0.1", "--port", str(port), "--data-dir", str(self.data_dir))
        return self._spawn(f"gateway-{port}", "retire-cluster-main", *where)

    @staticmethod
    def _gateway_serves(port: int) -> None:
        address = f"http://127.0.0.1:{port}/node/health"
        until(lambda: httpx.get(address).status_code == 200, "a gateway", START_S)

    def join_all(self, *names: str) -> None:
        """Agents that know both gateways, beginning with one or the other."""
        for number, name in enumerate(names):
            self.start_agent_at_both(name, number)
        for name in names:
            self.online(name)

    def start_agent_at_both(self, name: str, number: int) -> Process:
        ports = (self.gateway_port, self.other_gateway_port)[:: -1 if number % 2 else 1]
        where = [flag for port in ports for flag in ("--join", f"127.0.0.1:{port}")]
        return self.start_agent(name, "--allow-private-http", *where)

    def start_agent(self, name: str, *flags: str) -> Process:
        own = ("--data-dir", str(self.directory / name), "--device-id", name, "--token", self.token)
        return self._spawn(name, "retire-cluster-worker", *flags, *own)

    def run(self, command: str, *arguments: str, log: Path | None = None) -> None:
        done = Process(
            log or self.directory / "command.log",
            command,
            *arguments,
            environment={**clean_environment(), **self.variables},
        )
        assert done.wait(START_S) == 0, done.said()

    def stop(self) -> None:
        self.other_api.close()
        super().stop()


@contextmanager
def redis_server(directory: Path) -> Iterator[RedisServer]:
    """A Redis on a port of its own."""
    found = RedisServer(directory, free_port())
    try:
        yield found
    finally:
        found.stop()


@contextmanager
def prepared(directory: Path, **variables: str) -> Iterator[Production]:
    """PostgreSQL and Redis run; of the cluster nothing yet. `variables` are for every process of it."""
    with ExitStack() as stack:
        database = stack.enter_context(postgres.running())
        redis = stack.enter_context(redis_server(directory))
        found = Production(directory / "cluster", database, redis)
        stack.callback(found.stop)
        found.variables.update(variables)
        found.data_dir.mkdir(parents=True)
        yield found


@contextmanager
def running(directory: Path, **variables: str) -> Iterator[Production]:
    """The whole shape; `variables` are for every process."""
    with prepared(directory, **variables) as found:
        found.start_all()
        yield found
