"""How an agent finds its own command and its settings again, and when it offers to be kept."""

import io
import os
import shutil
import subprocess
import sys
import zipapp
from dataclasses import replace
from pathlib import Path

import pytest

import retire_cluster
from retire_cluster.agent import outbox
from retire_cluster.agent.config import AgentConfig
from retire_cluster.agent.host import Host
from retire_cluster.agent.identity import Identity, IdentityStore
from retire_cluster.agent.keeping import offer, settings
from retire_cluster.agent.keeping.places import Place
from retire_cluster.agent.life import Device, leave
from retire_cluster.cli.worker import _remembering, build_config, build_parser, main

ROOT = str(Path(retire_cluster.__file__).parents[1])
PROGRAM = (
    "import sys\nfrom retire_cluster.agent.keeping.itself import own_command\n"
    "print(*own_command(sys.modules['__main__']), sep='\\n')\n"
)


# --- its own command --------------------------------------------------------------------------------------------


def own_command(*words: str, cwd: Path, pythonpath: str = ROOT) -> list[str]:
    """What a program that was started like this says how to start it."""
    environ = {**os.environ, "PYTHONPATH": pythonpath}
    done = subprocess.run(words, cwd=cwd, env=environ, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_an_archive_is_started_by_its_absolute_path(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "__main__.py").write_text(PROGRAM)
    zipapp.create_archive(source, tmp_path / "agent.pyz")
    found = own_command(sys.executable, "agent.pyz", cwd=tmp_path)
    assert found == [sys.executable, str(tmp_path / "agent.pyz")]


def test_an_installed_script_is_started_by_its_absolute_path(tmp_path: Path) -> None:
    script = tmp_path / "retire-cluster-worker"
    script.write_text(f"#!{sys.executable}\n{PROGRAM}")
    script.chmod(0o755)
    assert own_command("./retire-cluster-worker", cwd=tmp_path) == [str(script)]


def test_a_module_is_started_with_the_path_it_needs(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    found = own_command(sys.executable, "-m", "program", cwd=tmp_path)
    assert found == ["/usr/bin/env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "program"]


# --- its settings -----------------------------------------------------------------------------------------------


def build(*arguments: str) -> AgentConfig:
    return build_config(build_parser().parse_args(arguments), {})


@pytest.fixture
def config(tmp_path: Path) -> AgentConfig:
    (tmp_path / "ca.pem").touch()
    (tmp_path / "words.py").touch()
    return build(
        *("--join", "nuc", "--join", "[::1]:9000", "--token", "rcj1_x_secret", "--data-dir", str(tmp_path)),
        *("--role", "compute", "--tags", "x,y", "--task-types", "echo", "--slots", "3"),
        *("--max-memory-gb", "1.3", "--pause-on-battery", "20", "--pause-above", "65.5", "--insecure-plain"),
        *("--handlers", f"{tmp_path}/words.py,my.module", "--ca", str(tmp_path / "ca.pem")),
        "--allow-private-http",
    )


def test_the_settings_come_back_as_flags_and_as_variables_but_for_the_token(config: AgentConfig) -> None:
    known = settings.settings_of(config, "/var/log/agent.log")
    flags = list(settings.flags(known))
    assert "rcj1_x_secret" not in " ".join(flags)
    assert flags[-2:] == ["--log-file", "/var/log/agent.log"]
    variables = settings.variables(known)
    for found in (build(*flags), build_config(build_parser().parse_args([]), variables)):
        expected = settings.settings_of(config)
        assert settings.settings_of(found) == expected
        assert (found.token, found.max_memory_mb) == (None, config.max_memory_mb)


def test_a_flag_that_was_not_given_is_not_among_them(tmp_path: Path) -> None:
    known = settings.settings_of(build("--join", "nuc", "--data-dir", str(tmp_path)))
    assert known == {"join": "nuc:8080", "data_dir": str(tmp_path)}


def test_settings_of_a_directory_that_was_moved_name_where_it_is(tmp_path: Path) -> None:
    old, new = tmp_path / "old" / "agent", tmp_path / "new" / "agent"
    old.mkdir(parents=True)
    settings.save(old, settings.settings_of(build("--join", "nuc", "--data-dir", str(old.parent))))
    old.parent.rename(new.parent)

    assert settings.load(new) == {"join": "nuc:8080", "data_dir": str(new.parent)}


def test_remembered_settings_are_read_back_and_rubbish_is_not(tmp_path: Path) -> None:
    assert settings.load(tmp_path) == {}
    settings.save(tmp_path, {"join": "nuc:8080"})
    assert settings.load(tmp_path) == {"join": "nuc:8080"}
    (tmp_path / settings.FILE).write_text("[1")
    assert settings.load(tmp_path) == {}


def test_a_variable_beats_what_is_remembered_unless_it_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.save(tmp_path, {"join": "nuc:8080", "slots": "3", "tags": "x"})
    monkeypatch.setenv("RETIRE_CLUSTER_SLOTS", "4")
    monkeypatch.setenv("RETIRE_CLUSTER_TAGS", "")
    flags = build_parser().parse_args(["--join", "here:1"])
    found = build_config(flags, _remembering(tmp_path))
    assert ([str(item) for item in found.join], found.slots, found.tags) == (["here:1"], 4, ("x",))


# --- who uses the directory -------------------------------------------------------------------------------------


def test_the_holder_of_a_directory_is_known_while_it_lives(tmp_path: Path) -> None:
    assert outbox.holder(tmp_path) is None
    used = outbox.Outbox(tmp_path)
    assert outbox.holder(tmp_path) == os.getpid()
    used.close()
    assert outbox.holder(tmp_path) is None  # the number in the file is one of a living process, which let go


# --- the offer --------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Of an agent whose owner has no keeper yet."""
    return Place(tmp_path / "data", tmp_path, Host(environ={}))


@pytest.mark.parametrize(("answer", "wanted"), [("y\n", True), ("Yes\n", True), ("\n", False), ("", False)])
def test_an_owner_at_a_terminal_is_asked_once(
    place: Place, capsys: pytest.CaptureFixture[str], answer: str, *, wanted: bool
) -> None:
    assert not offer.is_kept(place)
    assert offer.ask(place, io.StringIO(answer)) is wanted
    assert offer.ask(place, io.StringIO("y\n")) is False
    assert capsys.readouterr().err.count("[y/N]") == 1
    assert offer.hint(place, ["worker"]).endswith(f"worker keep --data-dir {place.data_dir}")


def test_what_has_a_keeper_is_kept(place: Place) -> None:
    for file in (place.script, place.unit, place.boot_script):
        file.parent.mkdir(parents=True)
        file.touch()
        assert offer.is_kept(place)
        file.unlink()
    assert not offer.is_kept(place)


def test_what_systemd_runs_is_kept_already(place: Place) -> None:
    assert offer.is_kept(replace(place, host=Host(environ={"INVOCATION_ID": "1"})))


# --- the end ----------------------------------------------------------------------------------------------------


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def device(place: Place, said: list[str]) -> Device:
    """A device that joined once, with some files of its agent."""
    state_dir = place.data_dir / "agent"
    state_dir.mkdir(parents=True)
    IdentityStore(state_dir).save(Identity("nuc", secret="rcd_x"))
    return Device(place.data_dir, ["worker"], place, said.append)


def no_config() -> AgentConfig:
    raise AssertionError("no gateway is to be told")


def no_agent(make: object) -> None:
    raise AssertionError("no agent is to run")


def test_only_the_local_part_goes_by_force_and_a_servers_files_stay(device: Device, said: list[str]) -> None:
    (device.data_dir / "join-token").touch()
    assert leave(device, no_config, no_agent, force=True) == 0
    assert not device.state_dir.exists()
    assert (device.data_dir / "join-token").exists()
    assert said[0] == f"removed: {device.state_dir}"
    assert "DELETE /api/v1/devices/nuc" in said[1]


def test_a_device_that_never_joined_has_nobody_to_tell(device: Device) -> None:
    IdentityStore(device.state_dir).save(Identity("nuc"))
    assert leave(device, no_config, no_agent, force=False) == 0
    assert not device.data_dir.exists()


def test_files_that_cannot_be_removed_are_named(
    device: Device, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    assert leave(device, no_config, no_agent, force=True) == 1
    assert str(device.state_dir) in said[-1]
    assert device.state_dir.exists()


def test_an_agent_that_does_not_end_keeps_the_device(
    device: Device, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retire_cluster.agent.life.DOWN_S", 0.0)
    program = (
        "import signal, sys, time\nfrom pathlib import Path\nfrom retire_cluster.agent.outbox import Outbox\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nused = Outbox(Path(sys.argv[1]))\nprint('up', flush=True)\n"
        "time.sleep(600)\n"
    )
    words = [sys.executable, "-c", program, str(device.state_dir)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": ROOT}) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            assert leave(device, no_config, no_agent, force=True) == 1
            assert f"process {process.pid} does not end" in said[-1]
            assert device.state_dir.exists()
        finally:
            process.kill()


# --- the command line -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--undo",), "--undo belongs to keep"),
        (("--force",), "--force belongs to --leave"),
        (("--json",), "--json belongs to doctor"),
        (("doctor", "--leave"), "do not go together"),
        (("keep", "--keeper", "init"), "--keeper: 'init' must be one of systemd, cron, termux"),
    ],
)
def test_what_would_have_no_effect_is_refused(
    arguments: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--data-dir", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err


def test_windows_is_labelled_experimental() -> None:
    assert "On Windows it is experimental" in build_parser().format_help()
