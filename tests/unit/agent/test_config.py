from pathlib import Path

import pytest

from retire_cluster.agent import config
from retire_cluster.agent.address import Address
from retire_cluster.agent.config import AgentConfig
from retire_cluster.agent.errors import ConfigError
from retire_cluster.agent.policy import Limits
from retire_cluster.cli.worker import build_config, build_parser, main
from retire_cluster.protocol.states import Role


def build(*arguments: str, **environ: str) -> AgentConfig:
    variables = {f"RETIRE_CLUSTER_{name}": value for name, value in environ.items()}
    return build_config(build_parser().parse_args(arguments), variables)


def test_every_flag_arrives(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    built = build(
        *(
            "--join",
            "a.lan",
            "--join",
            "[::1]:9000",
            "--token",
            "t",
            "--device-id",
            "nuc",
            "--role",
            "Compute",
        ),
        *("--tags", "x, y,,x", "--task-types", "echo", "--slots", "3", "--max-memory-gb", "1.5"),
        *("--data-dir", str(tmp_path), "--ca", str(tmp_path / "ca.pem"), "--insecure-plain", "--rejoin"),
        *("--pause-on-battery", "20", "--pause-above", "65.5"),
    )
    assert built == AgentConfig(
        join=(Address("a.lan"), Address("::1", 9000)),
        data_dir=tmp_path,
        state_dir=tmp_path / "agent",
        token="t",
        device_id="nuc",
        role=Role.COMPUTE,
        tags=("x", "y"),
        task_types=("echo",),
        slots=3,
        max_memory_mb=1536,
        ca_file=str(tmp_path / "ca.pem"),
        insecure_plain=True,
        rejoin=True,
        pause_on_battery=20,
        pause_above=65.5,
    )
    assert built.limits == Limits(20, 65.5)


def test_every_flag_has_a_variable() -> None:
    built = build(
        JOIN="a.lan,b.lan:1",
        JOIN_TOKEN="t",
        DEVICE_ID="nuc",
        ROLE="storage",
        TAGS="x",
        TASK_TYPES="sleep",
        SLOTS="2",
        MAX_MEMORY_GB="1",
        DATA_DIR="/d",
        INSECURE_PLAIN="yes",
        REJOIN="1",
    )
    assert built.join == (Address("a.lan"), Address("b.lan", 1))
    assert (built.token, built.device_id, built.role, built.tags) == ("t", "nuc", Role.STORAGE, ("x",))
    assert (built.task_types, built.slots, built.max_memory_mb) == (("sleep",), 2, 1024)
    assert (built.data_dir, built.insecure_plain, built.rejoin) == (Path("/d"), True, True)


def test_a_flag_beats_its_variable() -> None:
    assert build("--join", "a", "--slots", "1", SLOTS="2").slots == 1
    assert build("--join", "a", JOIN="b").join == (Address("a"),)


def test_a_token_file_given_as_a_flag_beats_the_variable(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    assert build("--join", "a", "--token-file", str(tmp_path / "token"), JOIN_TOKEN="t").token == "from-file"
    assert build("--join", "a", TOKEN_FILE=str(tmp_path / "token")).token == "from-file"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--join"),
        (["--join", "http://a"], "--join"),
        (["--token", "two words"], "--token"),
        (["--token-file", "/nonexistent"], "--token-file.*No such file"),
        (["--device-id", "_x"], "--device-id"),
        (["--device-id", "summary"], "--device-id"),
        (["--role", "boss"], "--role.*worker, compute"),
        (["--tags", "a b"], "--tags.*'a b'"),
        (["--tags", ",".join(f"t{n}" for n in range(33))], "--tags.*32"),
        (["--handlers", "no/such/file.py"], "--handlers: there is no file no/such/file.py"),
        (["--handlers", "a-b"], "--handlers: 'a-b' is neither a module's name nor a file"),
        (["--slots", "0"], "--slots"),
        (["--slots", "many"], "--slots"),
        (["--max-memory-gb", "-1"], "--max-memory-gb"),
        (["--max-memory-gb", "nan"], "--max-memory-gb"),
        (["--ca", "/nonexistent"], "--ca"),
        (["--pause-on-battery", "0"], "--pause-on-battery: '0' must be .* 1 to 100"),
        (["--pause-on-battery", "101"], "--pause-on-battery"),
        (["--pause-on-battery", "12.5"], "--pause-on-battery"),
        (["--pause-above", "19.9"], "--pause-above: '19.9' must be .* 20 to 120"),
        (["--pause-above", "121"], "--pause-above"),
        (["--pause-above", "nan"], "--pause-above"),
        (["--pause-above", "warm"], "--pause-above"),
    ],
)
def test_a_bad_value_names_its_flag(arguments: list[str], words: str) -> None:
    join = [] if not arguments or arguments[0] == "--join" else ["--join", "a"]
    with pytest.raises(ConfigError, match=words):
        build(*join, *arguments)


def test_a_file_of_handlers_that_is_no_python_file_is_named_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "README.md").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"--handlers: a file has to end in \.py, README\.md does not"):
        build("--join", "a", "--handlers", "README.md")
    assert build("--join", "a", "--handlers", "my.handlers").handlers == ("my.handlers",)


def test_a_bad_variable_is_named() -> None:
    with pytest.raises(ConfigError, match="from RETIRE_CLUSTER_SLOTS"):
        build("--join", "a", SLOTS="x")
    with pytest.raises(ConfigError, match="RETIRE_CLUSTER_REJOIN: 'maybe' must be 1 or 0"):
        build("--join", "a", REJOIN="maybe")


def test_a_bad_token_is_never_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        config.check_token("rcj1_k3_very secret")
    assert "secret" not in str(caught.value)


def test_a_bad_value_is_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RETIRE_CLUSTER_JOIN", raising=False)
    assert main(["--slots", "0"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "retire-cluster-worker: --join HOST[:PORT] is missing: the address of the gateway this device works for"
    ]
    with pytest.raises(SystemExit) as ended:
        main(["--no-such-flag"])
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def local(tmp_path: Path, host: str = "localhost", token: str | None = None) -> AgentConfig:
    return AgentConfig(join=(Address(host),), data_dir=tmp_path, state_dir=tmp_path / "agent", token=token)


def test_a_local_agent_finds_the_token_its_gateway_wrote(tmp_path: Path) -> None:
    assert local(tmp_path).find_token() is None
    (tmp_path / "join-token").write_text("rcj1_a_b\n")
    assert local(tmp_path).find_token() == "rcj1_a_b"
    assert local(tmp_path, token="mine").find_token() == "mine"
    assert local(tmp_path, host="nuc.lan").find_token() is None
