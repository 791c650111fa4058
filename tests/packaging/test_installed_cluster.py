"""A cluster of installed parts: the server from the wheel, one agent from the wheel, one from the sdist."""

from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster, Process
from tests.packaging.environment import Environment, foreign_environment

pytestmark = pytest.mark.timeout(600)  # seconds; downloads the dependencies when pip's cache is cold


class Installed(Cluster):
    """Processes of environments elsewhere, started there; `where` is the one of the next process."""

    def __init__(self, directory: Path, where: Environment) -> None:
        super().__init__(directory)
        self.first_start = True  # the installed server migrates for itself
        self.where = where

    def _spawn(self, name: str, command: str, *arguments: str) -> Process:
        process = Process(
            self.directory / f"{name}.log",
            self.where.bin / command,
            *arguments,
            environment={**foreign_environment(), **self.where.variables()},
            directory=self.where.empty,
        )
        self.processes.append(process)
        return process


def test_agents_of_both_join_and_run_tasks(
    server: Environment, phone: Environment, laptop: Environment, tmp_path: Path
) -> None:
    cluster = Installed(tmp_path / "cluster", server)
    try:
        cluster.start("--no-local-node")
        for name, where in (("phone", phone), ("laptop", laptop)):
            cluster.where = where
            cluster.join(name, "--tags", name)
            cluster.online(name)
            task = cluster.ended(
                cluster.submit("python_eval", {"expression": "6 * 7"}, requirements={"required_tags": [name]})
            )
            assert task["status"] == "success", task
            assert task["result"]["result"] == 42
            assert task["assigned_device_id"] == name
    finally:
        cluster.stop()
