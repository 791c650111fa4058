"""The base install: the agent, in pure Python, on a device without a compiler or with one."""

import pytest

from retire_cluster import __version__
from retire_cluster.cli import running
from tests.packaging.environment import Environment

SERVERS = ("retire-cluster-api", "retire-cluster-main")

pytestmark = pytest.mark.timeout(600)  # seconds; downloads the dependencies when pip's cache is cold


def test_without_a_compiler_it_is_pure_python(phone: Environment) -> None:
    assert phone.compiled() == set()
    phone.pip("check")


def test_of_its_dependencies_only_websockets_has_compiled_parts(laptop: Environment) -> None:
    assert laptop.compiled() <= {"websockets"}
    laptop.pip("check")


def test_the_agent_runs_and_knows_its_version(phone: Environment, laptop: Environment) -> None:
    for device in (phone, laptop):
        device("python", "-W", "error", "-c", "import retire_cluster.agent, retire_cluster.cli.worker")
        assert "--join" in device("retire-cluster-worker", "--help")
        assert device("retire-cluster-worker", "--version").strip() == f"retire-cluster-worker {__version__}"


@pytest.mark.parametrize("command", SERVERS)
def test_a_server_s_command_says_what_is_missing(phone: Environment, command: str) -> None:
    assert "--port" in phone(command, "--help")
    assert phone(command, "--version").strip() == f"{command} {__version__}"
    said = phone(command, expected=2)
    [line] = said.splitlines()
    assert line == f"{command}: {running.NO_SERVER}"
    assert "pip install '.[api]'" in line


def test_the_management_command_says_it_too(phone: Environment) -> None:
    assert phone("retire-cluster-manage", "--version").strip() == f"retire-cluster-manage {__version__}"
    assert "'.[api]'" in phone("retire-cluster-manage", "migrate", expected=2)


def test_the_metrics_extra_fits_it(laptop: Environment) -> None:
    laptop.pip("install", "--no-compile", "retire-cluster[metrics]")
    laptop.pip("check")
    laptop("python", "-W", "error", "-c", "import psutil, retire_cluster.agent.metrics")


def test_the_sdk_is_in_it(phone: Environment) -> None:
    program = (
        "from retire_cluster.sdk import RetireClusterAPI, SdkError\n"
        "from rich.progress import Progress\n"
        "try:\n"
        "    RetireClusterAPI('http://127.0.0.1:9', retries=0).cluster_status()\n"
        "except SdkError as error:\n"
        "    print(error)"
    )
    assert "check the address" in phone("python", "-W", "error", "-c", program)
