"""What the deployment files say can be run: programs, flags and variables exist. There is no Docker engine here."""

import configparser
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from retire_cluster.cli import api, gateway, worker
from tests.architecture.code import ROOT
from tests.e2e.cluster import BIN

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
VARIABLE = re.compile(r"RETIRE_CLUSTER_[A-Z_]+")
PARSERS = {
    "retire-cluster-api": api._parser,
    "retire-cluster-main": gateway._parser,
    "retire-cluster-worker": worker.build_parser,
}


def unit(file: Path) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(file)
    return parser["Service"]


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line of ours, and where it stands."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    (command,) = re.findall(r"^CMD (\[.*\])$", dockerfile, re.MULTILINE)
    yield "Dockerfile", json.loads(command)
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name, service in services.items():
        if "command" in service:
            yield f"docker-compose.yml {name}", service["command"]
    for file in UNITS:
        words = shlex.split(unit(file)["ExecStart"])
        yield file.name, [Path(words[0]).name, *words[1:]]


COMMANDS = dict(commands())


def test_every_part_of_the_production_shape_has_a_service_and_a_unit() -> None:
    composed = {name.split()[-1] for name in COMMANDS if name.startswith("docker-compose")}
    assert composed == {"migrate", "api", "gateway", "worker", "beat"}
    parts = {"", "-agent", "-beat", "-celery", "-gateway", "-web"}
    assert {file.name for file in UNITS} == {f"retire-cluster{part}.service" for part in parts}


@pytest.mark.parametrize("where", COMMANDS)
def test_the_program_exists_and_takes_its_flags(where: str) -> None:
    program, *arguments = COMMANDS[where]
    assert (BIN / program).exists()
    if program in PARSERS:
        PARSERS[program]().parse_args(arguments)


def test_variables_are_those_of_the_reference() -> None:
    known = set(VARIABLE.findall((ROOT / "docs" / "reference" / "configuration.md").read_text()))
    files = [ROOT / "Dockerfile", ROOT / "docker-compose.yml", *UNITS]
    named = {name for file in files for name in VARIABLE.findall(file.read_text())}
    assert named
    assert named <= known


def test_nothing_runs_as_root() -> None:
    assert "\nUSER cluster\n" in (ROOT / "Dockerfile").read_text()
    assert all(unit(file)["User"] == "retire-cluster" for file in UNITS)


def test_an_agent_that_was_sent_away_is_not_started_again() -> None:
    from retire_cluster.agent.errors import ExitCode

    prevented = unit(ROOT / "deploy" / "systemd" / "retire-cluster-agent.service")["RestartPreventExitStatus"]
    assert {int(code) for code in prevented.split()} == {int(code) for code in ExitCode} - {0}
