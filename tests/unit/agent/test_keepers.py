"""What keeps an agent running: files below a home of its own, programs that write down what they are told."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from retire_cluster.agent.host import Host
from retire_cluster.agent.keeping import texts
from retire_cluster.agent.keeping.keepers import (
    Cron,
    KeepError,
    Plan,
    Systemd,
    TermuxBoot,
    choose,
    installed,
    wait,
)
from retire_cluster.agent.keeping.places import Place

PATIENCE_S = 20.0
AGENT = ("/opt/cluster env/bin/retire-cluster-worker", "--join", "nuc:8080", "--tags", "50%,a$b")
# Writes down how it was called; a file beside it says what it prints, another its exit code.
RECORDER = """\
#!/bin/sh
echo "$(basename "$0") $*" >> "$HOME/calls"
[ "$1" = - ] && cat > "$HOME/stdin"
[ -e "$0.says" ] && cat "$0.says"
[ -e "$0.code" ] && exit "$(cat "$0.code")"
exit 0
"""


class Home:
    """A user's home with some programs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.programs = directory / "bin"
        self.programs.mkdir()
        self.environ = {"HOME": str(directory), "PATH": f"{self.programs}:/usr/bin:/bin"}

    def has(self, name: str, says: str = "", code: int = 0) -> None:
        program = self.programs / name
        program.write_text(RECORDER)
        program.chmod(0o755)
        (self.programs / f"{name}.says").write_text(says)
        (self.programs / f"{name}.code").write_text(str(code))

    @property
    def place(self) -> Place:
        host = Host(environ=self.environ)
        return Place(self.directory / ".retire-cluster", self.directory, host)

    @property
    def calls(self) -> list[str]:
        file = self.directory / "calls"
        return [line.strip() for line in file.read_text().splitlines()] if file.exists() else []

    def plan(self, *command: str) -> Plan:
        return Plan(
            command or AGENT, str(self.directory), self.environ["PATH"], "retire-cluster-worker keep --undo"
        )


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


# --- which one --------------------------------------------------------------------------------------------------


def test_the_best_there_is_is_chosen(home: Home) -> None:
    home.has("systemctl", code=1)
    home.has("crontab", code=1)
    assert choose(home.place, None).kind == "cron"
    home.has("systemctl")
    assert choose(home.place, None).kind == "systemd"
    assert choose(home.place, "cron").kind == "cron"
    home.environ["TERMUX_VERSION"] = "0.118"
    assert choose(home.place, None).kind == "termux"


def test_where_there_is_none_it_says_so(home: Home) -> None:
    home.environ["PATH"] = str(home.programs)
    with pytest.raises(KeepError, match="neither"):
        choose(home.place, None)
    with pytest.raises(KeepError, match="--keeper systemd"):
        choose(home.place, "systemd")


def test_two_data_directories_are_two_agents(home: Home) -> None:
    other = Place(home.directory / "second", home.directory, Host(environ=home.environ))
    assert home.place.name == "retire-cluster-worker"
    assert other.name.startswith("retire-cluster-worker-")
    home.has("systemctl")
    Systemd(home.place).install(home.plan())
    assert not Systemd(other).is_installed()


# --- systemd ----------------------------------------------------------------------------------------------------


def test_a_unit_is_enabled_and_lingering_is_tried(home: Home) -> None:
    home.has("systemctl")
    home.has("loginctl", says="no")
    keeper = Systemd(home.place)
    (written,) = keeper.install(home.plan())
    file = home.directory / ".config/systemd/user/retire-cluster-worker.service"
    assert (written.place, written.text) == (str(file), file.read_text())
    assert "systemctl --user daemon-reload" in home.calls
    assert "systemctl --user enable retire-cluster-worker.service" in home.calls
    assert f"loginctl enable-linger {keeper.user}" in home.calls
    assert "sudo loginctl enable-linger" in keeper.advice()[0]
    home.has("loginctl", says="yes")
    assert keeper.advice() == []
    assert [found.kind for found in installed(home.place)] == ["systemd"]


def test_a_unit_written_again_is_the_same(home: Home) -> None:
    home.has("systemctl")
    home.has("loginctl", says="yes")
    keeper = Systemd(home.place)
    assert keeper.install(home.plan()) == keeper.install(home.plan())
    assert len(list(home.directory.glob(".config/systemd/user/*"))) == 1


def test_a_unit_is_removed_with_what_it_runs(home: Home) -> None:
    home.has("systemctl")
    keeper = Systemd(home.place)
    assert keeper.remove() == []
    keeper.install(home.plan())
    (gone,) = keeper.remove()
    assert not Path(gone).exists()
    assert home.calls[-2:] == [
        "systemctl --user disable --now retire-cluster-worker.service",
        "systemctl --user daemon-reload",
    ]


def test_a_failed_unit_is_told(home: Home) -> None:
    home.has("systemctl", says="active")
    assert Systemd(home.place).trouble() is None
    home.has("systemctl", says="failed", code=3)
    assert "is failed: journalctl" in (Systemd(home.place).trouble() or "")
    with pytest.raises(KeepError, match="systemctl --user daemon-reload failed: failed"):
        Systemd(home.place).install(home.plan())


def test_final_exit_codes_are_not_restarted(home: Home) -> None:
    unit = texts.unit(AGENT, directory="/", path="/opt/50%:$x", undo="undo")
    assert "RestartPreventExitStatus=2 3 4 5 6 7\n" in unit
    assert "Restart=on-failure\n" in unit
    assert '"50%%,a$$b"' in unit
    assert 'Environment="PATH=/opt/50%%:$x"\n' in unit


# --- cron -------------------------------------------------------------------------------------------------------


def test_a_line_of_cron_is_added_once_and_others_stay(home: Home) -> None:
    home.has("crontab", says="0 3 * * * backup\n")
    keeper = Cron(home.place)
    script, line = keeper.install(home.plan())
    table = (home.directory / "stdin").read_text()
    assert table == f"0 3 * * * backup\n{line.text}"
    assert line.text.startswith("@reboot /bin/sh ")
    assert os.access(script.place, os.X_OK)
    home.has("crontab", says=table)
    keeper.install(home.plan())
    assert (home.directory / "stdin").read_text() == table
    assert keeper.is_installed()
    removed = keeper.remove()
    assert (home.directory / "stdin").read_text() == "0 3 * * * backup\n"
    assert removed[0] == script.place
    assert not Path(script.place).exists()


def test_cron_takes_a_per_cent_sign_for_a_line_end() -> None:
    assert texts.cron_line("/home dir/50%/keep.sh", "# x").startswith(
        "@reboot /bin/sh '/home dir/50\\%/keep.sh' "
    )


def test_a_refusing_crontab_is_told(home: Home) -> None:
    home.has("crontab", code=1)
    with pytest.raises(KeepError, match="crontab refuses"):
        Cron(home.place).install(home.plan())


# --- Termux -----------------------------------------------------------------------------------------------------


def test_termux_boot_holds_the_wake_lock(home: Home) -> None:
    for name in ("termux-wake-lock", "termux-wake-unlock"):
        home.has(name)
    (home.directory / "usr" / "bin").mkdir(parents=True)
    (home.directory / "usr" / "bin" / "sh").symlink_to("/bin/sh")
    home.environ |= {"TERMUX_VERSION": "0.118", "PREFIX": str(home.directory / "usr")}
    keeper = TermuxBoot(home.place)
    _, boot = keeper.install(home.plan("/bin/sh", "-c", "echo ran >> runs; exit 3"))
    assert boot.place == str(home.directory / ".termux/boot/retire-cluster-worker")
    assert os.access(boot.place, os.X_OK)
    assert any("Termux:Boot" in line for line in keeper.advice())
    done = subprocess.run([boot.place], env=home.environ, timeout=PATIENCE_S, check=False)
    assert done.returncode == 3
    assert (home.directory / "runs").read_text() == "ran\n"
    assert home.calls == ["termux-wake-lock"]
    assert boot.place in keeper.remove()
    assert home.calls[-1] == "termux-wake-unlock"
    assert installed(home.place) == []


# --- the loop ---------------------------------------------------------------------------------------------------


def loop_of(home: Home, *command: str) -> Path:
    """The loop, without its pauses."""
    script = home.directory / "keep.sh"
    text = texts.loop(command, directory=str(home.directory), path="/usr/bin:/bin", undo="undo")
    script.write_text(text.replace(f"delay={texts.FIRST_RETRY_S}", "delay=0"))
    return script


@pytest.mark.parametrize("code", [0, *texts.FINAL])
def test_the_loop_ends_with_a_final_code(home: Home, code: int) -> None:
    script = loop_of(home, "/bin/sh", "-c", f"echo ran >> runs; exit {code}")
    done = subprocess.run(["/bin/sh", script], timeout=PATIENCE_S, check=False)
    assert done.returncode == code
    assert (home.directory / "runs").read_text() == "ran\n"


@pytest.mark.parametrize("end", ["exit 1", "kill -9 $$"])
def test_the_loop_starts_what_died_again(home: Home, end: str) -> None:
    script = loop_of(home, "/bin/sh", "-c", f"echo ran >> runs; [ $(wc -l < runs) -ge 3 ] && exit 4; {end}")
    done = subprocess.run(["/bin/sh", script], timeout=PATIENCE_S, check=False, capture_output=True)
    assert done.returncode == 4
    assert (home.directory / "runs").read_text() == "ran\n" * 3


def test_the_loop_ends_when_its_script_is_removed(home: Home) -> None:
    script = loop_of(home, "/bin/sh", "-c", "rm keep.sh; exit 1")
    assert subprocess.run(["/bin/sh", script], timeout=PATIENCE_S, check=False).returncode == 0


def test_the_loop_passes_a_stop_on_and_waits(home: Home) -> None:
    agent = "trap 'echo over > over; exit 0' TERM; touch up; while :; do sleep 0.05; done"
    process = subprocess.Popen(["/bin/sh", loop_of(home, "/bin/sh", "-c", agent)])
    try:
        assert wait((home.directory / "up").exists, PATIENCE_S)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        assert (home.directory / "over").exists()
    finally:
        process.kill()


def test_what_cron_keeps_is_started_once_and_stopped(home: Home) -> None:
    home.has("crontab")
    keeper = Cron(home.place)
    keeper.install(home.plan("/bin/sh", "-c", "echo $$ >> ups; exec sleep 600"))
    assert "does not run" in (keeper.trouble() or "")
    keeper.start()
    assert wait((home.directory / "ups").exists, PATIENCE_S)
    keeper.start()
    assert keeper.trouble() is None
    keeper.stop()
    assert keeper.trouble() is not None
    (pid,) = (home.directory / "ups").read_text().split()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
