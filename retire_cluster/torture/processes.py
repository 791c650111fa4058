"""The scratch cluster's processes: a server and agents in a directory of their own, on ports nobody else has."""

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import retire_cluster
from retire_cluster.torture import evidence
from retire_cluster.torture.client import Client, NoAnswer
from retire_cluster.torture.history import OnDisk, Outage, Trouble
from retire_cluster.torture.proxy import Link
from retire_cluster.torture.scenario import LEASE_S, MEMORY_GB, SLOTS

START_S = 60.0  # for a server to become healthy on a busy machine
PROBE_S = 0.5
GONE_S = 0.005  # between two looks whether what was killed is gone
SLOW_S = 4.0  # without an answer for so long, the server may have missed its own second
HEARTBEAT = {"interval": 1, "timeout": 3, "max_missed": LEASE_S, "reconnect_grace": 1}
SERVER = "import sys; from retire_cluster.cli.api import main; sys.exit(main())"
AGENT = "retire_cluster.torture.agent"
# Of a real cluster: its database, broker and keys must not be found by a scratch one.
_FOREIGN = ("RETIRE_CLUSTER_", "DJANGO_", "PYTEST_", "CELERY_")


class CannotStart(RuntimeError):
    """The scratch cluster does not come up; the message says where to look."""


def environment() -> dict[str, str]:
    """This process's environment without any setting of a cluster, finding the same code."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    places = [str(Path(retire_cluster.__file__).parents[1]), *kept.get("PYTHONPATH", "").split(os.pathsep)]
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, places))}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Managed:
    """A program that is started, killed and started again; its output is collected in one file."""

    def __init__(
        self,
        arguments: list[str],
        log: Path,
        *,
        program: str = sys.executable,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._command = [program, *arguments]
        self._log = log
        self._variables = variables
        self._process: subprocess.Popen[bytes] | None = None
        self._is_over = False

    def start(self) -> None:
        """Start it, unless it was retired. What an earlier life left behind ends first, as service managers do."""
        self.kill()
        if self._is_over:
            return
        with self._log.open("ab") as stream:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**environment(), **self._variables},
                cwd=self._log.parent,
                start_new_session=True,  # a Ctrl-C is for who started the torture
            )

    @property
    def exit_code(self) -> int | None:
        """None while it runs, or was not started."""
        return None if self._process is None else self._process.poll()

    def strike(self) -> None:
        """SIGKILL for the program alone; what it started goes on. It stays a corpse, so its id is nobody else's."""
        self._signal(signal.SIGKILL)

    def strike_child(self, chance: random.Random) -> bool:
        """SIGKILL for one of the processes it started; whether there was one."""
        children = self._children()
        with contextlib.suppress(ProcessLookupError):
            if children:
                os.kill(chance.choice(children), signal.SIGKILL)
                return True
        return False

    def _children(self) -> list[int]:
        if self._process is None or self._process.returncode is not None:
            return []
        found: list[int] = []
        for file in Path(f"/proc/{self._process.pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, file.read_text().split())
        return found

    def kill(self) -> None:
        """SIGKILL for its whole group, also where it is stopped; returns when all of it is gone."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            # Before its corpse is buried: until then the group's number cannot be another's.
            while evidence.group(self._process.pid):
                time.sleep(GONE_S)
            self._process.wait()

    def retire(self) -> None:
        """Kill it for good: whoever still wants it back when all is over starts nothing."""
        self._is_over = True
        self.kill()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        # Not Popen's: it would bury a corpse whose id still stands for its group.
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)


def agent_arguments(name: str, tag: str, data_dir: Path, token: Path, ports: Sequence[int]) -> list[str]:
    """What python is to run for an agent that knows the gateways at these ports."""
    flags = {
        "--data-dir": str(data_dir),
        "--device-id": name,
        "--token-file": str(token),
        "--tags": tag,
        "--slots": str(SLOTS),
        "--max-memory-gb": str(MEMORY_GB),
        "--role": "worker",
    }
    joins = [word for port in ports for word in ("--join", f"127.0.0.1:{port}")]
    return ["-m", AGENT, *joins, *(word for flag in flags.items() for word in flag)]


class Server:
    """`retire-cluster-api` without a local node, on SQLite."""

    def __init__(self, directory: Path) -> None:
        self.data_dir = directory / "server"
        self.port, self.gateway_port = free_port(), free_port()
        ports = ["--port", str(self.port), "--cluster-port", str(self.gateway_port)]
        flags = ["--data-dir", str(self.data_dir), "--no-local-node", "--no-rate-limit", "--embedded"]
        self._log = directory / "server.log"
        self._process = Managed(["-c", SERVER, *ports, *flags], self._log)
        self.troubles: list[Trouble] = []
        self.has_died = False
        self._answered_at = time.time()
        self._is_away = False

    async def start(self) -> None:
        """Start it and have devices beat each second. Raises CannotStart."""
        await self._up()
        answer = await self.client().call("PUT", "config/heartbeat", HEARTBEAT)
        if answer.code != 200:
            raise CannotStart(f"the heartbeat settings were refused with {answer.code}; see {self._log}")
        await asyncio.to_thread(self.database().watch)

    async def _up(self) -> None:
        self._process.start()
        deadline = time.monotonic() + START_S
        while not await self._answers():
            if self._process.exit_code is not None or time.monotonic() > deadline:
                raise CannotStart(f"the server did not start; see {self._log}")
            await asyncio.sleep(0.1)

    async def _answers(self) -> bool:
        try:
            return (await self.client().call("GET", "cluster/status")).code == 200
        except (NoAnswer, FileNotFoundError):
            return False

    def client(self, port: int | None = None) -> Client:
        """A client with every right, at this port or straight at the server's own."""
        return Client(port or self.port, (self.data_dir / "api-key").read_text().strip())

    def database(self) -> evidence.Database:
        return evidence.Database(self.data_dir / "retire-cluster.sqlite3")

    async def die(self, seconds: float) -> None:
        """kill -9, nothing for a while, a new start. Raises CannotStart."""
        since, self._is_away = time.time(), True
        try:
            self._process.kill()
            await asyncio.sleep(seconds)
            await self._up()
        finally:
            self._is_away = False
        self.troubles.append(Trouble(since=since, until=time.time()))

    async def freeze(self, seconds: float) -> None:
        """SIGSTOP, SIGCONT after a while."""
        since, self._is_away = time.time(), True
        self._process.freeze()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._process.thaw()
            self._is_away = False
        self.troubles.append(Trouble(since=since, until=time.time()))

    async def watch(self) -> None:
        """Note when it is slow, and when it ends by itself. Runs for ever."""
        while True:
            if not self._is_away and self._process.exit_code is not None:
                self.has_died = True
            if await self._answers():
                now = time.time()
                if now - self._answered_at > SLOW_S:
                    self.troubles.append(Trouble(since=self._answered_at, until=now))
                self._answered_at = now
            await asyncio.sleep(PROBE_S)

    def stop(self) -> None:
        self._process.kill()


class Node:
    """An agent in the eyes of who kills it and starts it again."""

    def __init__(self, name: str, tag: str, directory: Path, token: Path, ports: Sequence[int]) -> None:
        self.name = name
        self.outages: list[Outage] = []
        self.on_disk: list[OnDisk] = []
        self.exits: list[int] = []  # codes of agents that ended by themselves
        self._directory = directory / name
        arguments = agent_arguments(name, tag, self._directory, token, ports)
        self._process = Managed(arguments, directory / f"{name}.log")

    def start(self) -> None:
        self._process.start()

    def stop(self) -> None:
        self._process.retire()

    def outbox(self) -> tuple[OnDisk, ...]:
        """Results on its disk that nobody has acknowledged."""
        return evidence.outbox(self.name, self._directory)

    def revive(self) -> None:
        """Start the agent anew if it ended by itself, which is noted."""
        if self._process.exit_code is not None:
            self.exits.append(self._process.exit_code)
            self._process.start()

    async def die(self, seconds: float) -> None:
        """kill -9, what lay on its disk is noted, nothing for a while, a new start."""
        self._process.kill()
        since = time.time()
        self.on_disk += await asyncio.to_thread(self.outbox)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._note("kill", since)
            self._process.start()

    async def freeze(self, seconds: float) -> None:
        """SIGSTOP, SIGCONT after a while."""
        await self.away("stop", seconds, self._process.freeze, self._process.thaw)

    async def away(
        self, kind: str, seconds: float, begin: Callable[[], None], end: Callable[[], None]
    ) -> None:
        """Out of reach between `begin` and `end`."""
        since = time.time()
        begin()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._note(kind, since)
            end()

    def _note(self, kind: str, since: float) -> None:
        self.outages.append(Outage(device=self.name, kind=kind, since=since, until=time.time()))


class Device(Node):
    """An agent behind a fault proxy."""

    def __init__(self, name: str, tag: str, directory: Path, server: Server) -> None:
        self.link = Link(server.gateway_port, frames=True)
        # One fault of a device after the other, so that each has a beginning and an end.
        self.faulty = asyncio.Lock()
        super().__init__(name, tag, directory, server.data_dir / "join-token", [self.link.port])

    async def join(self) -> None:
        """Start the proxy, then the agent."""
        await self.link.start()
        self.start()

    async def leave(self) -> None:
        """End the agent, then the proxy."""
        self.stop()
        await self.link.stop()
