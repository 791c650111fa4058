"""A peer: its processes, and its client in its own environment (benchmarks/peers)."""

import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.bench import Bench, durable_postgres
from benchmarks.harness.contestants import Latencies, Run
from benchmarks.harness.figures import Durability
from benchmarks.harness.ours import Program
from benchmarks.harness.talking import Talker
from benchmarks.harness.venvs import PEERS, python_of
from retire_cluster.torture import redis_server
from retire_cluster.torture.processes import free_port


class Stage:
    """Where one peer stands: its interpreter, its directory, and what was started of it so far.

    Raises NotInstallable.
    """

    def __init__(self, bench: Bench, peer: str, *also: str) -> None:
        """`also` are peers whose files it shares."""
        self._bench, self._peer = bench, peer
        self.python = python_of(peer, bench.cache)
        self.directory = bench.directory / peer
        self.directory.mkdir()
        self.roots: list[int] = []
        places = (PEERS, PEERS / peer, *(PEERS / other for other in also))
        self.variables = {"PYTHONPATH": os.pathsep.join(map(str, places))}

    def launch(self, name: str, *command: str | Path) -> Program:
        """Start a program, which ends with the scenario."""
        program = Program(command, self._log(name), self.variables)
        self._bench.stack.callback(program.stop)
        self.roots.append(program.pid)
        return program

    def script(self, name: str) -> Path:
        """A command of its environment."""
        return self.python.parent / name

    def client(self) -> Talker:
        """Start its client.py."""
        command = [self.python, PEERS / self._peer / "client.py"]
        client = Talker(self._peer, command, self._log("client"), self.variables)
        self._bench.stack.callback(client.stop)
        self.roots.append(client.pid)
        return client

    def redis(self) -> None:
        """Start a Redis as ours has it: in memory only."""
        port = free_port()
        quiet = ("--save", "", "--dir", self.directory, "--bind", "127.0.0.1")
        self.launch("redis", redis_server.executable(), "--port", str(port), *quiet)
        self.variables["BENCH_REDIS"] = f"redis://127.0.0.1:{port}"

    def postgres(self) -> str:
        """Start a PostgreSQL as ours has it; its URL."""
        server = self._bench.stack.enter_context(durable_postgres(self._log("postgres")))
        self.roots.append(server.pid)
        return server.url

    def pins(self, *packages: str) -> str:
        """The versions of these packages."""
        lines = (PEERS / self._peer / "requirements.txt").read_text().splitlines()
        found = dict(line.split("==") for line in lines)
        return ", ".join(f"{package} {found[package]}" for package in packages)

    def _log(self, name: str) -> Path:
        return self.directory / f"{self._peer}-{name}.log"


class Peer:
    """A peer with a client in its own environment."""

    def __init__(
        self, name: str, durability: Durability, settings: str, roots: Sequence[int], client: Talker
    ) -> None:
        self.name, self.durability, self.settings, self.roots = name, durability, settings, roots
        self.client = client

    def latency(self, count: int) -> Latencies:
        found = self.client.call("latency", count=count)
        return Latencies(found["times_ms"], found["faults"])

    def batch(self, count: int) -> Run:
        found = self.client.call("batch", count=count)
        return Run(found["submit_s"], found["total_s"], lambda: exactly(count, **self.client.call("check")))


def exactly(count: int, ids: int, results: int, right: int) -> list[str]:
    """What is wrong, if not each of `count` tasks has one id and its one right result."""
    if ids == results == right == count:
        return []
    return [f"{right} right ones of {results} results for {ids} ids of {count} tasks"]
