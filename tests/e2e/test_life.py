"""An agent's life on its device with real processes: joined and kept, killed and back, gone from the cluster."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from retire_cluster.agent.outbox import holder
from tests.e2e.cluster import BIN, Cluster, clean_environment, running, until

KEY = "a-key-of-an-administrator"
CRONTAB = """\
#!/bin/sh
# As much of crontab(1) as is used: it keeps the table in a file.
case "$1" in
-l) [ -e "$HOME/table" ] && cat "$HOME/table" ;;
-) cat > "$HOME/table" ;;
esac
"""


class Owner:
    """Somebody with a home, cron and no systemd of their own, at the shell of one device."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data_dir = home / "agent data"
        self.state_dir = self.data_dir / "agent"
        programs = home / "bin"
        programs.mkdir(parents=True)
        for name, text in {"crontab": CRONTAB, "systemctl": "#!/bin/sh\nexit 1\n"}.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**clean_environment(), "HOME": str(home), "PATH": path}
        self.environment.pop("TERMUX_VERSION", None)

    def worker(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [BIN / "retire-cluster-worker", *words, "--data-dir", str(self.data_dir)],
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def keep(self, cluster: Cluster, *flags: str) -> "subprocess.CompletedProcess[str]":
        token = (cluster.data_dir / "join-token").read_text().strip()
        where = f"127.0.0.1:{cluster.gateway_port}"
        return self.worker("keep", "--join", where, "--token", token, "--device-id", "phone", *flags)

    @property
    def table(self) -> str:
        file = self.home / "table"
        return file.read_text() if file.exists() else ""

    def agent(self) -> int | None:
        return holder(self.state_dir)

    def end(self) -> None:
        """Nothing of it may outlive the test."""
        self.worker("keep", "--undo")
        until(lambda: self.agent() is None, "the end of the agent")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("life"), "--no-local-node", "--api-key", KEY) as found:
        found.api.headers["X-API-Key"] = KEY
        yield found


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    found = Owner(tmp_path / "home")
    yield found
    found.end()


def known(cluster: Cluster, device_id: str = "phone") -> bool:
    return cluster.api.get(f"/api/v1/devices/{device_id}").status_code == 200


def kept(cluster: Cluster, owner: Owner, *flags: str) -> int:
    """Join and keep; the agent's process id."""
    again = ("--rejoin",)  # another test's device of the same name has left
    done = owner.keep(cluster, *again, *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    cluster.online("phone")
    pid = owner.agent()
    assert pid is not None
    return pid


def test_a_killed_agent_comes_back_as_the_same_device(cluster: Cluster, owner: Owner) -> None:
    pid = kept(cluster, owner, "--slots", "3")
    table, script = owner.table, owner.state_dir / "keep.sh"
    assert f"@reboot /bin/sh '{script}'" in table
    written = script.read_text() + table
    assert "rcj1_" not in written
    assert "rcd_" not in written
    os.kill(pid, signal.SIGKILL)
    back = until(lambda: (found := owner.agent()) and found != pid and found, "another agent")
    cluster.online("phone")
    assert cluster.get("devices/phone")["slots"] == 3
    assert [item["device_id"] for item in cluster.get("devices?status=online")] == ["phone"]

    done = owner.worker("keep")
    assert done.returncode == 0
    assert f"the agent runs (process {back})" in done.stdout
    assert owner.table == table
    assert owner.worker("--leave").returncode == 0


def test_what_cron_runs_at_boot_starts_it_once(cluster: Cluster, owner: Owner) -> None:
    pid = kept(cluster, owner)
    (line,) = owner.table.splitlines()
    os.killpg(os.getpgid(pid), signal.SIGKILL)  # the loop too, as a power cut does
    until(lambda: owner.agent() is None, "the end of the agent")
    command = line.removeprefix("@reboot ")
    loop = subprocess.Popen(["/bin/sh", "-c", command], env=owner.environment)
    until(owner.agent, "the agent that cron started")
    cluster.online("phone")
    # The directory is in use: a second one ends for good, and its loop with it.
    assert (
        subprocess.run(["/bin/sh", "-c", command], env=owner.environment, timeout=60, check=False).returncode
        == 2
    )
    assert owner.worker("--leave").returncode == 0
    assert loop.wait(60) == 0


def test_an_agent_that_was_started_by_hand_goes_on(cluster: Cluster, owner: Owner) -> None:
    token = (cluster.data_dir / "join-token").read_text().strip()
    where = f"127.0.0.1:{cluster.gateway_port}"
    words = [
        "--join",
        where,
        "--token",
        token,
        "--device-id",
        "phone",
        "--rejoin",
        "--data-dir",
        str(owner.data_dir),
    ]
    agent = subprocess.Popen([BIN / "retire-cluster-worker", *words], env=owner.environment)
    until((owner.state_dir / "settings.json").exists, "the device to have joined")
    done = owner.worker("keep")
    assert done.returncode == 0, done.stdout
    assert f"started by hand runs (process {agent.pid})" in done.stdout
    assert owner.agent() == agent.pid
    doctor = owner.worker("doctor")
    assert doctor.returncode == 0, doctor.stdout
    assert f"warn  keeper: the agent that runs (process {agent.pid}) was started by hand" in doctor.stdout
    assert f"runs on (process {agent.pid})" in owner.worker("keep", "--undo").stdout
    assert owner.worker("--leave").returncode == 0
    assert agent.wait(60) == 0


def test_nothing_is_left_of_it_after_an_undo(cluster: Cluster, owner: Owner) -> None:
    (owner.home / "table").write_text("0 3 * * * backup\n")
    kept(cluster, owner)
    assert len(owner.table.splitlines()) == 2
    done = owner.worker("keep", "--undo")
    assert done.returncode == 0
    until(lambda: owner.agent() is None, "the end of the agent")
    assert owner.table == "0 3 * * * backup\n"
    assert not (owner.state_dir / "keep.sh").exists()
    assert known(cluster)
    assert "nothing keeps" in owner.worker("keep", "--undo").stdout
    assert owner.worker("--leave").returncode == 0  # by the settings it joined with


def test_a_device_leaves_and_its_work_goes_elsewhere(cluster: Cluster, owner: Owner, tmp_path: Path) -> None:
    kept(cluster, owner)
    gate = tmp_path / "gate"
    task_id = cluster.submit("command", {"command": f"until [ -e '{gate}' ]; do sleep 0.05; done"})
    until(lambda: cluster.get(f"tasks/{task_id}/status")["status"] == "running", "the task to run")
    done = owner.worker("--leave")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not known(cluster)
    assert owner.agent() is None
    assert not owner.data_dir.exists()
    assert owner.table == ""
    assert str(owner.state_dir) in done.stdout
    assert cluster.get(f"tasks/{task_id}/status")["status"] == "queued"
    gate.touch()
    other = cluster.join("tablet")
    assert cluster.ended(task_id)["status"] == "success"
    other.terminate()

    again = owner.worker("--leave")
    assert again.returncode == 0
    assert "nothing to leave" in again.stdout
    events = [entry["action"] for entry in cluster.get("audit?target=phone")]
    assert "device.leave" in events


def test_a_device_that_was_removed_leaves_too(cluster: Cluster, owner: Owner) -> None:
    kept(cluster, owner)
    answer = cluster.api.delete("/api/v1/devices/phone")
    assert answer.status_code == 200, answer.text
    until(lambda: owner.agent() is None, "the end of the removed agent")
    done = owner.worker("--leave")
    assert done.returncode == 0, done.stdout
    assert not owner.data_dir.exists()


def test_the_doctor_sees_that_a_device_was_removed_and_what_it_says_helps(
    cluster: Cluster, owner: Owner
) -> None:
    kept(cluster, owner)
    assert (
        "ok    membership: the device has joined, and the cluster knows it" in owner.worker("doctor").stdout
    )
    assert owner.worker("keep", "--undo").returncode == 0
    until(lambda: owner.agent() is None, "the end of the agent")
    assert cluster.api.delete("/api/v1/devices/phone").status_code == 200
    done = owner.worker("doctor")
    assert done.returncode == 1
    assert "fail  membership: the cluster does not know this device any more" in done.stdout

    token = (cluster.data_dir / "join-token").read_text().strip()
    where = f"127.0.0.1:{cluster.gateway_port}"
    back = cluster.join("phone", "--rejoin", "--data-dir", str(owner.data_dir))
    cluster.online("phone")
    assert cluster.api.delete("/api/v1/devices/phone").status_code == 200
    assert back.wait() == 4
    done = owner.worker("doctor", "--join", where, "--token", token)
    assert "fail  membership: the device is no longer in the cluster" in done.stdout
    assert "start it with --rejoin, --join HOST[:PORT] and --token" in done.stdout


def test_without_its_server_a_device_stays_unless_forced(owner: Owner, tmp_path: Path) -> None:
    with running(tmp_path / "server", "--no-local-node") as cluster:
        kept(cluster, owner)
    done = owner.worker("--leave")
    assert done.returncode == 1
    assert "could not be told" in done.stdout
    assert "--leave --force" in done.stdout
    assert json.loads((owner.state_dir / "agent.json").read_text())["device_id"] == "phone"
    assert until(owner.agent, "the agent that was stopped to run again")
    assert owner.table

    forced = owner.worker("--leave", "--force")
    assert forced.returncode == 0, forced.stdout
    assert "DELETE /api/v1/devices/phone" in forced.stdout
    assert not owner.data_dir.exists()
    assert owner.table == ""


def test_the_doctor_is_content_with_a_kept_device_and_names_a_dead_server(
    owner: Owner, tmp_path: Path
) -> None:
    with running(tmp_path / "server", "--no-local-node") as cluster:
        kept(cluster, owner)
        done = owner.worker("doctor")
        assert done.returncode == 0, done.stdout
        assert "ok    gateway" in done.stdout
        assert "ok    clock" in done.stdout
        assert "ok    keeper: cron keeps it running" in done.stdout
    done = owner.worker("doctor", "--json")
    assert done.returncode == 1
    found = {item["check"]: item for item in json.loads(done.stdout)}
    assert found["port"]["level"] == "fail"
    assert "refused" in found["port"]["words"]
