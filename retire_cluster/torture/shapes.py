"""The two shapes that chaos is brought upon: everything in one process on SQLite, and one process for each part."""

import asyncio
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import MappingProxyType

from celery import Celery

from retire_cluster.torture import archive, postgres, redis_server
from retire_cluster.torture.archive import Archive
from retire_cluster.torture.client import Client, Roaming, answers
from retire_cluster.torture.parts import Part
from retire_cluster.torture.processes import SERVER, CannotStart, Managed, Node, free_port

LEASE_S = 4  # the term of a lease, heartbeats every second: a busy machine may be late with a few
HEARTBEAT = {"interval": 1, "timeout": 6, "max_missed": LEASE_S, "reconnect_grace": 1}
TAG = "chaos"
GATEWAY = "import sys; from retire_cluster.cli.gateway import main; sys.exit(main())"
MANAGE = "import sys; from retire_cluster.cli.manage import main; sys.exit(main())"
DOWN_S = (0.0, 2.0)  # between a kill and the new start
PING_S = 3.0  # for Celery's workers to say that they are there
STOPPED_S = (1.0, 7.0)  # now and then past the lease

Strike = Callable[[float, Random], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Blow:
    """A way to hurt the cluster: how often it is chosen among all, its victims, and for how many seconds."""

    kind: str
    weight: int
    victims: Mapping[str, Strike]
    seconds: tuple[float, float] = DOWN_S


class Shape(ABC):
    """A cluster in a directory of its own. What differs says a subclass: its parts and their ports."""

    clock_s = 0.0  # by which the times of its rows may be wrong

    def __init__(self, directory: Path, agents: int) -> None:
        self.data_dir = directory / "server"
        self.parts: dict[str, Part] = {}
        self._directory = directory
        self._api_ports, self._gateway_ports = self._ports()
        token = self.data_dir / "join-token"
        self.nodes = [
            Node(
                f"agent-{number}",
                TAG,
                directory,
                token,
                self._gateway_ports[turn:] + self._gateway_ports[:turn],
            )
            for number in range(1, agents + 1)
            for turn in [number % len(self._gateway_ports)]
        ]

    def _ports(self) -> tuple[list[int], list[int]]:
        """Of the API processes and of the gateways."""
        return [free_port()], [free_port()]

    @property
    @abstractmethod
    def archive(self) -> Archive:
        """Reads its database."""

    def blows(self) -> list[Blow]:
        """What may happen to it."""
        mortal = {node.name: _dies(node) for node in self.nodes}
        stoppable = {node.name: _freezes(node) for node in self.nodes}
        return [Blow("agent killed", 6, mortal), Blow("agent stopped", 3, stoppable, STOPPED_S)]

    def client(self, chance: Random) -> Client:
        """Asks any of the API processes, with every right."""
        key = (self.data_dir / "api-key").read_text().strip()
        return Roaming([Client(port, key) for port in self._api_ports], chance)

    async def start(self) -> None:
        """Everything up, short leases, all devices online. Raises CannotStart."""
        await self._start_parts()
        answer = await self.client(Random(0)).call("PUT", "config/heartbeat", HEARTBEAT)  # noqa: S311
        if answer.code != 200:
            raise CannotStart(f"the heartbeat settings were refused with {answer.code}")
        await asyncio.to_thread(self.archive.watch)
        for node in self.nodes:
            node.start()

    async def _start_parts(self) -> None:
        await asyncio.gather(*(part.up() for part in self.parts.values()))

    def idle_workers(self) -> str:
        """A worker of Celery's that does not answer although everything is up, if any. Takes seconds."""
        return ""

    def stop(self) -> None:
        """Nothing of it runs any more."""
        for node in self.nodes:
            node.stop()
        for part in reversed(self.parts.values()):  # those first that would miss what others do for them
            part.stop()

    def _add(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        program: str = sys.executable,
        variables: Mapping[str, str] = MappingProxyType({}),
        is_up: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        log = self._directory / f"{name}.log"
        process = Managed([*arguments], log, program=program, variables=variables)
        self.parts[name] = Part(name, process, is_up)

    def _deaths(self, *names: str) -> dict[str, Strike]:
        return {name: self.parts[name].die for name in names}


def _dies(node: Node) -> Strike:
    return lambda seconds, _: node.die(seconds)


def _freezes(node: Node) -> Strike:
    return lambda seconds, _: node.freeze(seconds)


def _answers(port: int, path: str) -> Callable[[], Awaitable[bool]]:
    return lambda: answers(port, path)


class Embedded(Shape):
    """`retire-cluster-api` on SQLite: REST, gateway, Celery's worker and beat in one process."""

    def __init__(self, directory: Path, agents: int, _: ExitStack) -> None:
        super().__init__(directory, agents)
        (port,), (gateway,) = self._api_ports, self._gateway_ports
        where = ["--port", str(port), "--cluster-port", str(gateway), "--data-dir", str(self.data_dir)]
        flags = ["--no-local-node", "--no-rate-limit", "--embedded"]
        self._add("server", ["-c", SERVER, *where, *flags], is_up=_answers(port, "/api/v1"))

    @property
    def archive(self) -> Archive:
        return archive.of_sqlite(self.data_dir / "retire-cluster.sqlite3")

    def blows(self) -> list[Blow]:
        server = self.parts["server"]
        return [
            *super().blows(),
            Blow("server killed", 4, self._deaths("server")),
            Blow("server stopped", 1, {"server": server.freeze}, STOPPED_S),
        ]


class Production(Shape):
    """PostgreSQL, Redis, gunicorn, uvicorn, two gateways, two Celery workers, beat."""

    # Each transaction reads the clock at its beginning, and may then wait for another gateway's: at most for one
    # that was stopped, until PostgreSQL ends it after 5 s.
    clock_s = 10.0

    def __init__(self, directory: Path, agents: int, stack: ExitStack) -> None:
        """Start PostgreSQL, which only its connections are taken from. Raises PostgresError, RedisError."""
        super().__init__(directory, agents)
        self._database_url = stack.enter_context(postgres.server(directory / "postgres.log"))
        redis = free_port()
        self._add(
            "redis",
            ["--port", str(redis), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)],
            program=redis_server.executable(),
            is_up=lambda: _listens(redis),
        )
        self._variables = {
            "RETIRE_CLUSTER_DATABASE_URL": self._database_url,
            "RETIRE_CLUSTER_REDIS_URL": f"redis://127.0.0.1:{redis}/0",
            "RETIRE_CLUSTER_DATA_DIR": str(self.data_dir),
            "RETIRE_CLUSTER_CLUSTER_PORT": str(self._gateway_ports[0]),
            "RETIRE_CLUSTER_RATE_LIMITS": "off",
        }
        self._add_servers()
        self._add_celery()

    def _ports(self) -> tuple[list[int], list[int]]:
        return [free_port(), free_port()], [free_port(), free_port()]

    def _add_servers(self) -> None:
        for number, port in enumerate(self._gateway_ports, start=1):
            where = ["--host", "127.0.0.1", "--port", str(port), "--data-dir", str(self.data_dir)]
            self._add_ours(f"gateway-{number}", ["-c", GATEWAY, *where], _answers(port, "/node/health"))
        first, second = self._api_ports
        workers = ["-m", "gunicorn", "-w", "2", "-b", f"127.0.0.1:{first}", "retire_cluster.api.wsgi:app"]
        self._add_ours("gunicorn", workers, _answers(first, "/api/v1"))
        asgi = ["-m", "uvicorn", "--port", str(second), "retire_cluster.asgi:application"]
        self._add_ours("uvicorn", asgi, _answers(second, "/api/v1"))

    def _add_celery(self) -> None:
        celery = ["-m", "celery", "-A", "retire_cluster"]
        for number in (1, 2):
            name = f"celery-{number}"
            self._add_ours(name, [*celery, "worker", "-c", "1", "-n", f"{name}@here", "-l", "INFO"])
        self._add_ours("beat", [*celery, "beat", "-s", str(self._directory / "beat-schedule")])

    def _add_ours(
        self, name: str, arguments: list[str], is_up: Callable[[], Awaitable[bool]] | None = None
    ) -> None:
        self._add(name, arguments, variables=self._variables, is_up=is_up)

    async def _start_parts(self) -> None:
        self.data_dir.mkdir()
        log = self._directory / "migrate.log"
        migrate = Managed(["-c", MANAGE, "migrate"], log, variables=self._variables)
        migrate.start()
        try:
            while migrate.exit_code is None:
                await asyncio.sleep(0.1)
        finally:
            migrate.kill()
        if migrate.exit_code:
            raise CannotStart(f"the database could not be migrated; see {log}")
        await super()._start_parts()

    @property
    def archive(self) -> Archive:
        return archive.of_postgres(self._database_url)

    def blows(self) -> list[Blow]:
        part = self.parts
        frozen = {name: part[name].freeze for name in ("gateway-1", "gateway-2")}
        replaced = {name: part[name].lose_child for name in ("celery-1", "celery-2")}
        return [
            *super().blows(),
            Blow("gateway killed", 3, self._deaths("gateway-1", "gateway-2")),
            Blow("gateway stopped", 2, frozen, STOPPED_S),
            Blow("gunicorn killed", 1, self._deaths("gunicorn")),
            Blow("gunicorn worker killed", 2, {"gunicorn": part["gunicorn"].lose_child}),
            Blow("uvicorn killed", 2, self._deaths("uvicorn")),
            Blow("Celery worker killed", 1, self._deaths("celery-1", "celery-2")),
            Blow("Celery worker's child killed", 1, replaced),
            Blow("beat killed", 1, self._deaths("beat")),
            Blow("Redis killed", 1, self._deaths("redis")),
            Blow("PostgreSQL's connections ended", 2, {"postgres": lambda _, __: self.end_connections()}),
        ]

    def idle_workers(self) -> str:
        with Celery(broker=self._variables["RETIRE_CLUSTER_REDIS_URL"]) as app:
            there = app.control.inspect(timeout=PING_S).ping() or {}
        missing = {"celery-1@here", "celery-2@here"} - there.keys()
        return f"no answer of {', '.join(sorted(missing))}" if missing else ""

    async def end_connections(self) -> None:
        """Have PostgreSQL cut everybody off."""
        await asyncio.to_thread(archive.end_connections, self._database_url)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


SHAPES: dict[str, Callable[[Path, int, ExitStack], Shape]] = {"embedded": Embedded, "production": Production}
