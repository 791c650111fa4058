"""What the deployment files say can be run: programs, flags and variables exist. There is no Docker engine here."""

import configparser
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from django.conf import settings

from retire_cluster.api.pending import MAX_WAIT_S
from retire_cluster.cli import api, gateway, worker
from tests.architecture.code import ROOT
from tests.e2e.cluster import BIN

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
PROCFILE = ROOT / "deploy" / "Procfile"
PROXIES = [ROOT / "deploy" / "nginx" / "retire-cluster.conf", ROOT / "deploy" / "caddy" / "Caddyfile"]
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
    for line in PROCFILE.read_text().splitlines():
        if not line.startswith("#"):
            name, _, command = line.partition(": exec ")
            # Ports are numbers, whichever make run-production chooses.
            yield f"Procfile {name}", shlex.split(re.sub(r"\$\w+_PORT", "1234", command))
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
    files = [ROOT / "Dockerfile", ROOT / "docker-compose.yml", PROCFILE, *PROXIES, *UNITS]
    named = {name for file in files for name in VARIABLE.findall(file.read_text())}
    assert named
    assert named <= known


@pytest.mark.parametrize("file", PROXIES, ids=lambda file: file.name)
def test_a_proxy_waits_longer_than_any_client_may(file: Path) -> None:
    patience = re.findall(r"(?:proxy_read_timeout|response_header_timeout) (\d+)s", file.read_text())
    assert patience
    assert all(int(seconds) > MAX_WAIT_S for seconds in patience)


@pytest.mark.parametrize("file", PROXIES, ids=lambda file: file.name)
def test_a_proxy_takes_the_largest_body_there_is(file: Path) -> None:
    (most,) = re.findall(r"(?:client_max_body_size|max_size) (\d+)[mM]", file.read_text())
    assert int(most) * 1024 * 1024 > settings.BATCH_UPLOAD_MAX_MEMORY_SIZE


def test_nginx_never_sends_a_post_again() -> None:
    settings_of_it = [line.partition("#")[0] for line in PROXIES[0].read_text().splitlines()]
    assert [line.strip() for line in settings_of_it if "proxy_next_upstream" in line] == [
        "proxy_next_upstream error;"
    ]


def test_nothing_runs_as_root() -> None:
    assert "\nUSER cluster\n" in (ROOT / "Dockerfile").read_text()
    assert all(unit(file)["User"] == "retire-cluster" for file in UNITS)


def test_an_agent_that_was_sent_away_is_not_started_again() -> None:
    from retire_cluster.agent.errors import ExitCode

    prevented = unit(ROOT / "deploy" / "systemd" / "retire-cluster-agent.service")["RestartPreventExitStatus"]
    assert {int(code) for code in prevented.split()} == {int(code) for code in ExitCode} - {0}
