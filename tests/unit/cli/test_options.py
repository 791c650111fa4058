"""Every flag of every command has a variable; the flag beats it; a bad value is one line that names it."""

import argparse
import os
from pathlib import Path

import pytest

from retire_cluster.agent.address import Address
from retire_cluster.cli import api, gateway, worker
from retire_cluster.cli.options import Parser, Usage, parse
from retire_cluster.protocol.states import Role

SERVERS: dict[str, Parser] = {"api": api._parser(), "gateway": gateway._parser()}
CHECKS = {"api": api._check, "gateway": gateway._check}
# One-shot actions: they say what this very call is for, and would be a trap in an environment.
ONE_SHOT = {"--help", "--version", "--test", "--undo", "--leave", "--force", "--json"}
# Read by the settings, for every process, not only for the command: flag -> (variable, its text, the flag's
# arguments, what the settings find then).
BY_SETTINGS = {
    "--data-dir": ("DATA_DIR", "/nowhere", ["--data-dir", "/elsewhere"], "/elsewhere"),
    "--debug": ("DEBUG", "no", ["--debug"], "true"),
}
# flag -> (variable, its text, what it means, the flag's arguments, what they mean)
CASES: dict[str, dict[str, tuple[str, str, object, list[str], object]]] = {
    "api": {
        "--host": ("API_HOST", "192.0.2.1", "192.0.2.1", ["--host", "::1"], "::1"),
        "--port": ("API_PORT", "9001", 9001, ["--port", "9002"], 9002),
        "--auth": ("AUTH", "all", "all", ["--auth"], "on"),
        "--api-key": ("API_KEY", "a,b", ["a", "b"], ["--api-key", "c"], ["c"]),
        "--cluster-host": ("CLUSTER_HOST", "there", "there", ["--cluster-host", "here"], "here"),
        "--cluster-port": ("CLUSTER_PORT", "9003", 9003, ["--cluster-port", "9004"], 9004),
        "--relay": ("RELAY", "yes", True, ["--relay"], True),
        "--cluster-pin": ("CLUSTER_PIN", "a,b", ["a", "b"], ["--cluster-pin", "c"], ["c"]),
        "--cluster-ca": ("CLUSTER_CA", "one", "one", ["--cluster-ca", "two"], "two"),
        "--cluster-bind": ("CLUSTER_BIND", "0.0.0.0", "0.0.0.0", ["--cluster-bind", "::"], "::"),
        "--embedded": ("EMBEDDED", "yes", True, ["--no-embedded"], False),
        "--no-embedded": ("EMBEDDED", "no", False, ["--embedded"], True),
        "--no-local-node": ("NO_LOCAL_NODE", "1", True, ["--no-local-node"], True),
        "--no-rate-limit": ("RATE_LIMITS", "off", True, ["--no-rate-limit"], True),
        "--hello": ("HELLO", "on", True, ["--hello"], True),
        "--insecure-plain": ("INSECURE_PLAIN", "1", True, ["--insecure-plain"], True),
        "--no-migrate": ("NO_MIGRATE", "true", True, ["--no-migrate"], True),
        "--tls-cert": ("TLS_CERT", "one", "one", ["--tls-cert", "two", "--tls-key", "key"], "two"),
        "--tls-key": ("TLS_KEY", "one", "one", ["--tls-key", "two", "--tls-cert", "pem"], "two"),
        "--log-file": ("LOG_FILE", "one", "one", ["--log-file", "two"], "two"),
    },
    "gateway": {
        "--host": ("CLUSTER_BIND", "192.0.2.1", "192.0.2.1", ["--host", "::1"], "::1"),
        "--port": ("CLUSTER_PORT", "9001", 9001, ["--port", "9002"], 9002),
        "--insecure-plain": ("INSECURE_PLAIN", "1", True, ["--insecure-plain"], True),
        "--no-migrate": ("NO_MIGRATE", "true", True, ["--no-migrate"], True),
        "--tls-cert": ("TLS_CERT", "one", "one", ["--tls-cert", "two", "--tls-key", "key"], "two"),
        "--tls-key": ("TLS_KEY", "one", "one", ["--tls-key", "two", "--tls-cert", "pem"], "two"),
        "--log-file": ("LOG_FILE", "one", "one", ["--log-file", "two"], "two"),
    },
}
# The agent's: flag -> (variable, its text, what it means, the flag's arguments, what they mean, the field)
AGENT: dict[str, tuple[str, str, object, list[str], object, str]] = {
    "--join": ("JOIN", "b:1,c", (Address("b", 1), Address("c")), ["--join", "a"], (Address("a"),), "join"),
    "--token": ("JOIN_TOKEN", "t1", "t1", ["--token", "t2"], "t2", "token"),
    "--token-file": ("TOKEN_FILE", "one", "from-one", ["--token-file", "two"], "from-two", "token"),
    "--device-id": ("DEVICE_ID", "d1", "d1", ["--device-id", "d2"], "d2", "device_id"),
    "--role": ("ROLE", "storage", Role.STORAGE, ["--role", "mobile"], Role.MOBILE, "role"),
    "--tags": ("TAGS", "x,y", ("x", "y"), ["--tags", "z"], ("z",), "tags"),
    "--task-types": ("TASK_TYPES", "echo", ("echo",), ["--task-types", "sleep"], ("sleep",), "task_types"),
    "--handlers": ("HANDLERS", "one.two", ("one.two",), ["--handlers", "x,y"], ("x", "y"), "handlers"),
    "--slots": ("SLOTS", "3", 3, ["--slots", "4"], 4, "slots"),
    "--max-memory-gb": ("MAX_MEMORY_GB", "1", 1024, ["--max-memory-gb", "2"], 2048, "max_memory_mb"),
    "--data-dir": ("DATA_DIR", "/d1", Path("/d1"), ["--data-dir", "/d2"], Path("/d2"), "data_dir"),
    "--keeper": ("KEEPER", "cron", "cron", ["--keeper", "systemd"], "systemd", "keeper"),
    "--ca": ("CA", "one", "one", ["--ca", "two"], "two", "ca_file"),
    "--insecure-plain": ("INSECURE_PLAIN", "yes", True, ["--insecure-plain"], True, "insecure_plain"),
    "--rejoin": ("REJOIN", "1", True, ["--rejoin"], True, "rejoin"),
    "--allow-private-http": (
        "ALLOW_PRIVATE_HTTP",
        "1",
        True,
        ["--allow-private-http"],
        True,
        "allow_private_http",
    ),
    "--pause-on-battery": (
        "PAUSE_ON_BATTERY",
        "20",
        20,
        ["--pause-on-battery", "30"],
        30,
        "pause_on_battery",
    ),
    "--pause-above": ("PAUSE_ABOVE", "60.5", 60.5, ["--pause-above", "70"], 70.0, "pause_above"),
    "--log-file": ("LOG_FILE", "one", "one", ["--log-file", "two"], "two", "log_file"),
    "--debug": ("DEBUG", "on", True, ["--debug"], True, "debug"),
}
ROWS = [(command, flag) for command, cases in CASES.items() for flag in cases]


def flags(parser: argparse.ArgumentParser) -> set[str]:
    return {text for action in parser._actions for text in action.option_strings if text.startswith("--")}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No variable of the machine counts, and none that a parse exports survives the test."""
    for name in {case[0] for cases in CASES.values() for case in cases.values()} | {"DEBUG", "DATA_DIR"}:
        monkeypatch.setenv(f"RETIRE_CLUSTER_{name}", "")
    return monkeypatch


def parsed(command: str, *argv: str) -> argparse.Namespace:
    return parse(SERVERS[command], list(argv), CHECKS[command])


@pytest.mark.parametrize("command", SERVERS)
def test_every_flag_of_a_server_has_a_variable(command: str) -> None:
    assert flags(SERVERS[command]) - ONE_SHOT - BY_SETTINGS.keys() == CASES[command].keys()


@pytest.mark.parametrize(
    ("command", "flag"), [(command, flag) for command in SERVERS for flag in BY_SETTINGS]
)
def test_a_flag_that_the_settings_read_beats_its_variable(
    command: str, flag: str, environment: pytest.MonkeyPatch
) -> None:
    variable, text, argv, meaning = BY_SETTINGS[flag]
    environment.setenv(f"RETIRE_CLUSTER_{variable}", text)
    parsed(command)
    assert os.environ[f"RETIRE_CLUSTER_{variable}"] == text
    parsed(command, *argv)
    assert os.environ[f"RETIRE_CLUSTER_{variable}"] == meaning


def test_every_flag_of_the_agent_has_a_variable() -> None:
    assert flags(worker.build_parser()) - ONE_SHOT == AGENT.keys()


def agent(flag: str, argv: list[str], text: str) -> object:
    """What the agent makes of the flag's arguments and its variable's text."""
    variable, field = AGENT[flag][0], AGENT[flag][-1]
    environ = {"RETIRE_CLUSTER_JOIN": "a", f"RETIRE_CLUSTER_{variable}": text}
    found = worker.build_parser().parse_args(argv)
    if field == "debug":  # the log is set up before there is a configuration
        return worker._Options(found, environ).is_set(field)
    if field in ("log_file", "keeper"):
        return worker._Options(found, environ).get(field, str)
    return getattr(worker.build_config(found, environ), field)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the agent's flags for files name."""
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"from-{name}")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("flag", AGENT)
def test_a_variable_of_the_agent_counts_and_its_flag_beats_it(flag: str) -> None:
    _, text, meaning, argv, stronger, _ = AGENT[flag]
    assert agent(flag, [], text) == meaning
    assert agent(flag, argv, _against(text, meaning)) == stronger


@pytest.mark.parametrize(("command", "flag"), ROWS)
def test_the_variable_counts(command: str, flag: str, environment: pytest.MonkeyPatch) -> None:
    variable, text, meaning, _, _ = CASES[command][flag]
    environment.setenv(f"RETIRE_CLUSTER_{variable}", text)
    assert getattr(parsed(command), _destination(command, flag)) == meaning


@pytest.mark.parametrize(("command", "flag"), ROWS)
def test_the_flag_beats_the_variable(command: str, flag: str, environment: pytest.MonkeyPatch) -> None:
    variable, text, counts, argv, meaning = CASES[command][flag]
    environment.setenv(f"RETIRE_CLUSTER_{variable}", _against(text, counts if counts == meaning else None))
    assert getattr(parsed(command, *argv), _destination(command, flag)) == meaning


def _against(text: str, meaning: object) -> str:
    """A variable the flag has to beat: a switch can only be given, so its variable says no."""
    return "no" if meaning is True else text


def _destination(command: str, flag: str) -> str:
    return next(action.dest for action in SERVERS[command]._actions if flag in action.option_strings)


def test_without_flag_and_variable_the_documented_defaults_hold() -> None:
    found = vars(parsed("api"))
    assert (found["host"], found["port"], found["cluster_host"], found["cluster_port"]) == (
        "127.0.0.1",
        8081,
        "localhost",
        8080,
    )
    assert found["cluster_bind"] == "127.0.0.1"
    assert found["embedded"] is None
    assert not any(found[name] for name in ("no_local_node", "no_migrate", "insecure_plain", "hello"))
    gateway_defaults = vars(parsed("gateway"))
    assert (gateway_defaults["host"], gateway_defaults["port"]) == ("0.0.0.0", 8080)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("API_PORT", "many"),
        ("API_PORT", "70000"),
        ("AUTH", "perhaps"),
        ("EMBEDDED", "maybe"),
        ("NO_LOCAL_NODE", "maybe"),
        ("NO_MIGRATE", "2"),
        ("INSECURE_PLAIN", "x"),
        ("HELLO", "hello"),
        ("RELAY", "perhaps"),
    ],
)
def test_a_bad_variable_is_one_line_that_names_it(
    variable: str, text: str, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv(f"RETIRE_CLUSTER_{variable}", text)
    with pytest.raises(Usage, match=rf"^RETIRE_CLUSTER_{variable}: .+{text}") as caught:
        parsed("api")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("argv", [["--port", "many"], ["--auth", "perhaps"], ["--nonsense"], ["stray"]])
def test_a_bad_flag_is_one_line(argv: list[str]) -> None:
    with pytest.raises(Usage) as caught:
        parsed("api", *argv)
    assert argv[0] in str(caught.value)
    assert "\n" not in str(caught.value)
