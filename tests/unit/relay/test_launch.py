"""From flags to a relay, or to one line that says why there is none."""

import asyncio
import re
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from retire_cluster.agent.address import Address
from retire_cluster.cli import api
from retire_cluster.cli.options import Usage, parse
from retire_cluster.listeners import Listener, bind
from retire_cluster.relay import launch
from retire_cluster.relay.health import silent, understood
from retire_cluster.relay.peer import Peer
from retire_cluster.startup import StartupError

VARIABLES = (
    "API_KEY", "AUTH", "CLUSTER_CA", "CLUSTER_HOST", "CLUSTER_PIN", "CLUSTER_PORT", "DATABASE_URL", "EMBEDDED",
    "INSECURE_PLAIN", "JOIN_TOKEN", "RATE_LIMITS", "REDIS_URL", "RELAY", "TLS_CERT", "TLS_KEY", "TRUSTED_PROXIES",
)  # fmt: skip
ELSEWHERE = "192.0.2.1"  # documentation only: nobody has it
PIN = "ab" * 32


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in VARIABLES:
        monkeypatch.setenv(f"RETIRE_CLUSTER_{name}", "")
    monkeypatch.setattr("logging.config.dictConfig", lambda configuration: None)
    return monkeypatch


def wanted(*argv: str) -> bool:
    return launch.is_wanted(parse(api._parser(), list(argv), api._check))


def started(*argv: str) -> None:
    """Start as the command does, but for the loop."""

    def no_loop(main: Coroutine[Any, Any, None]) -> None:
        main.close()

    launch.run(parse(api._parser(), ["--port", "0", *argv], api._check), no_loop)


def test_a_gateway_elsewhere_without_a_shared_database_makes_a_relay(environment: pytest.MonkeyPatch) -> None:
    assert wanted("--cluster-host", ELSEWHERE)
    assert wanted("--cluster-host", ELSEWHERE, "--no-embedded")
    assert not wanted("--cluster-host", "localhost")
    assert not wanted("--cluster-host", "localhost", "--no-embedded")
    assert not wanted("--cluster-host", "127.0.0.2")
    assert not wanted("--cluster-host", ELSEWHERE, "--embedded")
    environment.setenv("RETIRE_CLUSTER_REDIS_URL", "redis://there")
    assert wanted("--cluster-host", ELSEWHERE), "Redis alone holds no tasks"
    environment.setenv("RETIRE_CLUSTER_DATABASE_URL", "postgresql://there/cluster")
    assert not wanted("--cluster-host", ELSEWHERE)


def test_whoever_asks_for_a_relay_gets_one(environment: pytest.MonkeyPatch) -> None:
    assert wanted("--relay")
    environment.setenv("RETIRE_CLUSTER_DATABASE_URL", "postgresql://there/cluster")
    assert wanted("--relay", "--cluster-host", "localhost")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--cluster-pin", "abc"], "--cluster-pin: must be the 64 hexadecimal digits"),
        (["--cluster-pin", PIN, "--insecure-plain"], "--cluster-pin and --insecure-plain exclude each other"),
        (["--auth", "all"], "--auth (RETIRE_CLUSTER_AUTH): a relay checks no keys, the gateway does"),
        (["--cluster-host", "http://there"], "--cluster-host: 'http://there' is a URL"),
        (["--cluster-host", "not a name"], "--cluster-host: 'not a name'"),
        (["--cluster-host", "fe80::zz"], "--cluster-host"),
        (["--cluster-port", "0"], "--cluster-port: must be 1 to 65535"),
        (["--tls-cert", "x"], "--tls-cert needs --tls-key beside it"),
    ],
)
def test_an_unusable_flag_of_a_relay_is_one_line(argv: list[str], words: str) -> None:
    with pytest.raises(StartupError, match=re.escape(words)) as caught:
        started("--relay", *argv)
    assert "\n" not in str(caught.value)


def test_a_variable_of_a_relay_is_checked_too(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RETIRE_CLUSTER_TRUSTED_PROXIES", "everybody")
    with pytest.raises(StartupError, match="RETIRE_CLUSTER_TRUSTED_PROXIES: 'everybody'"):
        started("--relay")


def test_a_relay_runs_nothing_itself() -> None:
    with pytest.raises(Usage, match="--relay and --embedded exclude each other"):
        started("--relay", "--embedded")


def test_a_taken_port_is_one_line() -> None:
    with bind("127.0.0.1", 0, flag="--port").socket as held:
        port = held.getsockname()[1]
        with pytest.raises(StartupError, match=f"port {port} on 127.0.0.1 is taken"):
            started("--relay", "--port", str(port))


@pytest.mark.parametrize("host", ["192.0.2.1", "there.lan", "fe80::1", "[fe80::1]", "fe80::1%eth0", "a_b"])
def test_every_form_of_a_host_is_taken(host: str) -> None:
    started("--cluster-host", host, "--cluster-pin", PIN, "--relay")


def test_an_unreadable_ca_file_is_one_line(tmp_path: Path) -> None:
    listener = bind("127.0.0.1", 0, flag="--port")
    peer = Peer(Address("127.0.0.1", 1), tls=True, ca_file=str(tmp_path / "none.pem"))
    with (
        listener.socket,
        pytest.raises(StartupError, match=r"--cluster-ca .*none\.pem: not a usable PEM file"),
    ):
        asyncio.run(launch.serve(launch.Plan(listener, peer, (), (), hello=False)))


def test_the_join_token_s_pin_counts_where_no_flag_says_anything(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RETIRE_CLUSTER_JOIN_TOKEN", f"rcj1_0000000000000000_{'a' * 64}_{PIN}")
    arguments = parse(api._parser(), ["--cluster-host", ELSEWHERE], api._check)
    assert launch._peer(arguments) == Peer(Address(ELSEWHERE), tls=True, pins=frozenset({PIN}))


def said(
    host: str = "127.0.0.1", *, plain: bool = False, reason: str = "", notes: tuple[str, ...] = ()
) -> str:
    place = {"host": ELSEWHERE, "port": 8080, "tls": not plain}
    well = dict.fromkeys(("api", "cluster_server", "task_scheduler"), "healthy")
    state = silent(place, reason) if reason else understood(place, {"components": well})
    peer = Peer(Address(ELSEWHERE), tls=not plain, pins=frozenset() if plain else frozenset({PIN}))
    with bind("127.0.0.1", 0, flag="--port").socket as held:
        listener = Listener(held, host, 8081)
        return "\n".join(launch.lines(launch.Plan(listener, peer, (), (), False, notes), state))


def test_the_greeting_says_whose_relay_it_is_and_how_the_gateway_does() -> None:
    assert "the gateway at 192.0.2.1:8080, known by its pinned certificate" in said()
    assert "Gateway     answers, healthy" in said()
    assert "the gateway at 192.0.2.1:8080, without encryption" in said(plain=True)
    assert "Gateway     does not serve: it sleeps" in said(reason="it sleeps")


def test_the_greeting_warns_of_an_open_address_and_of_flags_without_effect() -> None:
    assert "whoever reaches this address" in said("0.0.0.0")
    assert "whoever reaches this address" not in said()
    assert "--api-key has no effect here" in said(
        notes=("--api-key has no effect here: give it to the gateway",)
    )
    arguments = parse(api._parser(), ["--api-key", "k", "--no-rate-limit"], api._check)
    assert [note.split()[0] for note in launch._without_effect(arguments)] == ["--api-key", "--no-rate-limit"]
