"""The commands of people against a real server with real devices, in pipes and on a terminal."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from retire_cluster.terminal import devices, tasks
from tests.e2e.cluster import BIN, PATIENCE_S, Cluster, Process, clean_environment, running, until

# These tests may run under nohup, and what they start would ignore SIGHUP too.
AS_IN_A_WINDOW = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""
COMMAND, STATUS = str(BIN / "retire-cluster"), str(BIN / "retire-cluster-status")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("terminal")) as found:
        until(lambda: found.get("devices?status=online"), "the local node")
        yield found


def variables(cluster: Cluster, **more: str) -> dict[str, str]:
    """What a person has set: where the server is, and where it keeps its key."""
    where = {
        "RETIRE_CLUSTER_API": f"127.0.0.1:{cluster.port}",
        "RETIRE_CLUSTER_DATA_DIR": str(cluster.data_dir),
    }
    return {**clean_environment(), **where, **more}


def call(cluster: Cluster, *words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *words], input=given, env=variables(cluster), capture_output=True, text=True, timeout=90
    )


def said(cluster: Cluster, *words: str, given: str | None = None) -> str:
    """What a command prints, once it went well."""
    done = call(cluster, *words, given=given)
    assert done.returncode == 0, done.stderr
    return done.stdout


def started(cluster: Cluster, output: Path, *words: str, program: str = "retire-cluster") -> Process:
    return Process(output, program, *words, environment=variables(cluster))


# --- run ----------------------------------------------------------------------------------------------------------


def test_run_streams_what_a_command_prints_and_exits_with_its_code(cluster: Cluster, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = (
        f"for i in 1 2; do echo line $i; done; echo oops >&2; while [ ! -e {go} ]; do sleep 0.1; done; exit 7"
    )
    with subprocess.Popen(
        [COMMAND, "run", "--", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=variables(cluster),
    ) as run:
        assert run.stdout
        assert run.stderr
        assert [run.stdout.readline(), run.stdout.readline()] == ["line 1\n", "line 2\n"]
        assert run.stderr.readline() == "oops\n"
        assert run.poll() is None  # it came while the command ran
        go.touch()
        assert run.wait(60) == 7
        assert (run.stdout.read(), run.stderr.read()) == ("", "")


def test_run_outlives_a_restart_of_the_server_and_says_so(tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"echo begun; while [ ! -e {go} ]; do sleep 0.1; done; echo over; exit 7"
    with running(tmp_path / "cluster", "--no-local-node") as own:
        own.join("steady")
        own.online("steady")
        run = started(own, tmp_path / "run.log", "run", "--", script)
        until(lambda: "begun" in run.said(), "the command to run")
        assert own.server.interrupt() == 0
        until(lambda: "again" in run.said() or not run.alive(), "the outage to be said")
        own.start("--no-local-node")
        go.touch()
        assert run.wait() == 7
        assert "begun" in run.said()
        assert "over" in run.said()


def test_a_command_ends_when_its_reader_has_enough(cluster: Cluster, tmp_path: Path) -> None:
    line = f'{COMMAND} run --cwd {tmp_path} -- "echo first; while sleep 0.1; do echo more; done" | head -n 1'
    done = subprocess.run(
        ["sh", "-c", line], env=variables(cluster), capture_output=True, text=True, timeout=90
    )
    assert (done.stdout, done.stderr) == ("first\n", "")
    [task] = cluster.get("tasks?task_type=command&page_size=1")
    assert cluster.ended(task["task_id"])["status"] == "cancelled"


def test_several_words_are_a_program_with_its_arguments(cluster: Cluster) -> None:
    assert said(cluster, "run", "--", "printf", "%s|", "a b", "$HOME") == "a b|$HOME|"
    assert said(cluster, "run", "--env", "PLACE=attic", "--", "echo $PLACE") == "attic\n"


def test_ctrl_c_cancels_and_leaves_nothing_running(cluster: Cluster, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; sleep 600"
    run = started(cluster, tmp_path / "out", "run", "--", script)
    until(pid_file.exists, "the command to run")
    run.send_signal(signal.SIGINT)
    assert run.wait() == 130
    assert "nothing of it runs any more" in run.said()
    assert not Path(f"/proc/{pid_file.read_text().strip()}").exists()
    (task,) = cluster.get("tasks?task_type=command&page_size=1")
    assert task["status"] == "cancelled"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_ends_with_run_however_that_is_ended(
    cluster: Cluster, tmp_path: Path, how: signal.Signals
) -> None:
    command = (AS_IN_A_WINDOW, COMMAND, "run", "--", "echo begun; sleep 600")
    run = Process(tmp_path / "out", sys.executable, "-c", *command, environment=variables(cluster))
    until(lambda: "begun" in run.said(), "the command to run")
    run.send_signal(how)
    assert run.wait() == 128 + how
    assert "Traceback" not in run.said()
    [task] = cluster.get("tasks?task_type=command&page_size=1")
    assert cluster.ended(task["task_id"])["status"] == "cancelled"


def test_a_command_ends_with_the_window_it_was_started_in(cluster: Cluster) -> None:
    terminal = Terminal(cluster, COMMAND, "run", "--", "echo begun; while sleep 0.1; do echo more; done")
    terminal.until("begun")
    terminal.close()
    [task] = cluster.get("tasks?task_type=command&page_size=1")
    assert cluster.ended(task["task_id"])["status"] == "cancelled"


def test_what_is_to_outlive_its_window_does(cluster: Cluster, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"echo begun; while [ ! -e {go} ]; do sleep 0.1; done; exit 7"
    run = Process(
        tmp_path / "out",
        *("/usr/bin/nohup", str(BIN / "retire-cluster"), "run", "--", script),
        environment=variables(cluster),
    )
    until(lambda: "begun" in run.said(), "the command to run")
    run.send_signal(signal.SIGHUP)
    go.touch()
    assert run.wait() == 7


def test_a_command_past_its_limit_is_124(cluster: Cluster) -> None:
    done = call(cluster, "run", "--timeout", "1", "--", "sleep 600")
    assert (done.returncode, done.stdout) == (124, "")
    assert done.stderr.startswith("timeout: ")


def test_a_command_that_a_signal_ends_has_the_shells_code(cluster: Cluster) -> None:
    assert call(cluster, "run", "--", "sh", "-c", "kill -9 $$").returncode == 137


def test_what_cannot_be_run_is_125_and_says_why(cluster: Cluster) -> None:
    refused = call(cluster, "run", "--api-key", "wrong", "--", "true")
    assert refused.returncode == 125
    assert refused.stderr.startswith("retire-cluster: not run: ")
    missing = call(cluster, "run", "--", "/no/such/program", "x")
    assert missing.returncode == 125
    assert "/no/such/program" in missing.stderr


def test_a_second_ctrl_c_leaves_a_server_that_does_not_answer(tmp_path: Path) -> None:
    with running(tmp_path / "cluster") as own:
        until(lambda: own.get("devices?status=online"), "the local node")
        out = tmp_path / "out"
        run = Process(out, "retire-cluster", "run", "--", "echo begun; sleep 600", environment=variables(own))
        until(lambda: "begun" in run.said(), "its output")
        own.server.send_signal(signal.SIGSTOP)
        run.send_signal(signal.SIGINT)
        until(lambda: "cancelling task" in run.said(), "the cancel")
        run.send_signal(signal.SIGINT)
        assert run.wait() == 130
        assert "left without waiting" in run.said()


# --- tasks --------------------------------------------------------------------------------------------------------


def test_submit_takes_a_payload_from_anywhere(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "payload.json"
    file.write_text('{"n": 3}')
    for payload, given in (('{"n": 1}', None), ("-", '{"n": 2}'), (f"@{file}", None)):
        answer = said(cluster, "submit", "echo", payload, "--wait", given=given)
        assert json.loads(answer)["echo"]["n"] in (1, 2, 3)
    task_id = said(cluster, "submit", "echo", "--priority", "high", "--cores", "1").strip()
    assert said(cluster, "result", task_id, "--wait") == '{"echo": {}}\n'
    task = cluster.get(f"tasks/{task_id}")
    assert (task["priority"], task["requirements"]["min_cpu_cores"]) == ("high", 1)


def test_many_tasks_from_a_file(cluster: Cluster) -> None:
    lines = "\n".join(json.dumps({"task_type": "echo", "payload": {"n": number}}) for number in range(5))
    answers = said(cluster, "submit", "--file", "-", "--wait", given=f"{lines}\n\n").splitlines()
    assert [json.loads(line)["echo"]["n"] for line in answers] == list(range(5))
    ids = said(cluster, "submit", "--file", "-", given=lines).split()
    assert [cluster.ended(task_id)["result"]["echo"]["n"] for task_id in ids] == list(range(5))


@pytest.mark.parametrize(
    ("words", "given", "complaint"),
    [
        (("submit", "echo", "{"), None, "PAYLOAD is no JSON"),
        (("submit", "echo", "[1]"), None, "must be a JSON object"),
        (("submit", "echo", "@/nowhere"), None, "cannot read /nowhere"),
        (("submit", "--file", "-"), "", "has no tasks"),
        (("submit", "--file", "-"), '{"task_type": "echo", "payload": {}}\n{', "-, line 2 is no JSON"),
        (("submit",), None, "TYPE is missing"),
        (("submit", "echo", "--file", "-"), "", "not both"),
        (("run",), None, "the command is missing"),
        (("config", "reset"), None, "--yes"),
        (("remove", "attic"), None, "--yes"),
        (("config", "heartbeat", "interval"), None, "NAME=VALUE"),
        (("run", "--env", "X", "--", "true"), None, "NAME=VALUE"),
    ],
)
def test_wrong_use_is_one_line_and_sends_nothing(
    cluster: Cluster, words: tuple[str, ...], given: str | None, complaint: str
) -> None:
    before = cluster.get("tasks/statistics")["queue_stats"]["total_tasks"]
    done = call(cluster, *words, given=given)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1
    assert cluster.get("tasks/statistics")["queue_stats"]["total_tasks"] == before


def test_what_the_server_refuses_is_one_line_with_what_to_do(cluster: Cluster) -> None:
    for words in (
        ("tasks", "01a2239f-0000-7000-8000-000000000000"),
        ("devices", "attic"),
        ("submit", "nonsense"),
    ):
        done = call(cluster, *words)
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(r"retire-cluster: .+; .+\n", done.stderr), done.stderr


def test_a_server_that_is_not_there_is_3() -> None:
    done = subprocess.run(
        [COMMAND, "tasks", "--api", "127.0.0.1:9"], capture_output=True, text=True, env=clean_environment()
    )
    assert done.returncode == 3
    assert re.fullmatch(r"retire-cluster: .+; check the address.*\n", done.stderr), done.stderr


def test_cancel_retry_and_explain(cluster: Cluster) -> None:
    blocked = said(cluster, "submit", "sleep", "--tag", "nowhere").strip()
    words = said(cluster, "explain", blocked)
    assert re.search(r"\tno\t.*nowhere", words), words
    unknown = "01a2239f-0000-7000-8000-000000000000"
    several = call(cluster, "cancel", unknown, blocked)
    assert several.returncode == 1
    assert several.stderr.startswith(f"{unknown}: ")
    assert f"\n{blocked}\tsleep\tcancelled\t" in several.stdout
    assert f"\n{blocked}\tsleep\tqueued\t" in said(cluster, "retry", blocked)
    assert call(cluster, "result", blocked, "--wait", "--wait-s", "0.2").returncode == 124
    assert call(cluster, "result", blocked).returncode == 1
    said(cluster, "cancel", blocked)
    dry = said(cluster, "submit", "sleep", "--tag", "nowhere", "--dry-run")
    assert "nowhere" in dry


def test_lists_in_a_pipe_are_columns_between_tabs(cluster: Cluster) -> None:
    said(cluster, "submit", "echo", "--wait")
    head, *rows = said(cluster, "tasks", "--type", "echo", "--limit", "1").splitlines()
    assert head == "TASK\tTYPE\tSTATUS\tPRIORITY\tDEVICE\tCREATED\tSECONDS\tPROGRESS"
    assert len(rows) == 1
    assert len(rows[0].split("\t")) == len(tasks.COLUMNS)
    head, *rows = said(cluster, "devices").splitlines()
    assert head.split("\t") == [name.upper() for name in devices.COLUMNS]
    assert {row.split("\t")[1] for row in rows} <= {"online", "offline"}


def test_json_is_what_the_server_says(cluster: Cluster) -> None:
    task_id = said(cluster, "submit", "echo", '{"x": "ü"}').strip()
    cluster.ended(task_id)
    assert json.loads(said(cluster, "tasks", task_id, "--json")) == cluster.get(f"tasks/{task_id}")
    assert json.loads(said(cluster, "config", "--json")).keys() == {
        "server", "heartbeat", "scheduler", "retention"
    }  # fmt: skip
    assert json.loads(said(cluster, "types", "--json")) == cluster.get("tasks/types")


def test_a_reader_that_has_enough_is_no_error(cluster: Cluster) -> None:
    line = f"'{COMMAND}' run -- 'yes | head -n 20000' | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        capture_output=True,
        text=True,
        env=variables(cluster),
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "y\n", "")


# --- devices and administration -----------------------------------------------------------------------------------


def test_a_device_is_drained_tested_and_brought_back(cluster: Cluster) -> None:
    (local,) = [item["device_id"] for item in cluster.get("devices?status=online")][:1]
    assert f"device\t{local}" in said(cluster, "devices", local)
    assert re.fullmatch(rf"{local} answered in \d+\.\d ms\n", said(cluster, "ping", local))
    assert "draining\tyes" in said(cluster, "drain", local, "--reason", "new disk", "--deadline", "60")
    assert "new disk" in said(cluster, "devices", local)
    assert "cordoned\tno" in said(cluster, "uncordon", local)


def test_a_printed_token_lets_a_device_join_and_remove_ends_it(cluster: Cluster) -> None:
    made = call(cluster, "tokens", "create", "attic", "--uses", "1", "--tag", "attic", "--expires", "1h")
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith(" RETIRE_CLUSTER_JOIN_TOKEN="), "a blank keeps it out of a shell's history"
    token = re.search(r"rcj1_\w+", made.stdout)
    assert token, made.stdout
    agent = cluster.join("attic", token=token[0])
    cluster.online("attic")
    assert said(cluster, "run", "--tag", "attic", "--", "echo here") == "here\n"
    assert said(cluster, "remove", "attic", "--yes") == "attic is removed\n"
    assert agent.wait() == 4
    found = json.loads(said(cluster, "tokens", "--json"))[0]
    assert (found["name"], found["uses"]) == ("attic", 1)
    assert "\tno\t" in said(cluster, "tokens", "revoke", found["id"])


def test_a_task_on_a_device_that_is_gone_says_so_while_it_counts_as_running(cluster: Cluster) -> None:
    said(cluster, "config", "heartbeat", "reconnect_grace=600")
    agent = cluster.join("shed", "--tags", "shed")
    cluster.online("shed")
    task_id = said(cluster, "submit", "sleep", '{"duration": 600}', "--tag", "shed").strip()
    until(lambda: cluster.get(f"tasks/{task_id}")["status"] == "running", "the task to run")
    assert "\ndevice\tshed\n" in said(cluster, "tasks", task_id)
    agent.kill()
    until(lambda: cluster.get("devices/shed")["status"] == "offline", "the device to be gone")
    words = said(cluster, "tasks", task_id)
    assert "\nstatus\trunning\n" in words
    assert "\ndevice\tshed, offline: " in words
    said(cluster, "remove", "shed", "--yes")
    said(cluster, "cancel", task_id)
    said(cluster, "config", "reset", "--yes")


def test_a_key_is_made_used_and_revoked(cluster: Cluster) -> None:
    key = said(cluster, "keys", "create", "phone", "--scopes", "read,submit", "--expires", "1h").strip()
    assert said(cluster, "types", "--api-key", key).startswith("TYPE\t")
    refused = call(cluster, "keys", "--api-key", key)
    assert refused.returncode == 1
    assert "scope" in refused.stderr
    (found,) = [item for item in json.loads(said(cluster, "keys", "--json")) if item["name"] == "phone"]
    said(cluster, "keys", "revoke", found["id"])
    assert call(cluster, "types", "--api-key", key).returncode == 1


def test_a_setting_is_changed_as_it_was_read(cluster: Cluster) -> None:
    assert "heartbeat\tinterval\t45" in said(cluster, "config", "heartbeat", "interval=45")
    refused = call(cluster, "config", "heartbeat", "interval=0")
    assert refused.returncode == 1
    assert "interval" in refused.stderr
    assert "heartbeat\tinterval\t60" in said(cluster, "config", "reset", "--yes")


# --- status -------------------------------------------------------------------------------------------------------


def status(cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    address = f"127.0.0.1:{cluster.port}"
    return subprocess.run(
        [STATUS, address, *words], env=variables(cluster), capture_output=True, text=True, timeout=60
    )


def test_status_says_how_the_cluster_is(cluster: Cluster) -> None:
    done = status(cluster)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("health\thealthy\n")
    assert "\nDEVICE\t" in done.stdout
    assert "\nTASK\t" in done.stdout
    assert "\nTASK\t" not in status(cluster, "--devices").stdout
    assert "\nDEVICE\t" not in status(cluster, "--tasks").stdout
    assert "\nTASK\t" not in status(cluster, "--role", "worker").stdout
    data = json.loads(status(cluster, "--json").stdout)
    assert data.keys() == {"health", "cluster", "statistics", "devices", "tasks"}
    assert data["cluster"]["cluster_stats"] == cluster.get("cluster/status")["cluster_stats"]
    local = data["devices"][0]["device_id"]
    assert f"device\t{local}" in status(cluster, "--device", local).stdout


def test_a_cluster_without_devices_is_not_well(tmp_path: Path) -> None:
    with running(tmp_path, "--no-local-node") as own:
        done = status(own)
        assert done.returncode == 1
        assert "devices online\t0 of 0" in done.stdout


def test_watch_as_json_is_every_event(cluster: Cluster) -> None:
    with subprocess.Popen(
        [STATUS, f"127.0.0.1:{cluster.port}", "--watch", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env=variables(cluster),
    ) as watch:
        assert watch.stdout
        assert json.loads(watch.stdout.readline())["type"] == "snapshot"
        task_id = cluster.submit()
        for line in watch.stdout:
            event = json.loads(line)
            if event["type"] == "task.finished" and event["data"]["task_id"] == task_id:
                break
        watch.send_signal(signal.SIGINT)
        assert watch.wait(30) == 0


class Terminal:
    """A program on a terminal of its own, and what it wrote there."""

    def __init__(self, cluster: Cluster, *words: str, more: Mapping[str, str] | None = None) -> None:
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            os.execve(
                words[0], words, {**variables(cluster), "TERM": "xterm", "COLUMNS": "160", **(more or {})}
            )
        self.text = ""

    def until(self, pattern: str, seconds: float = 40.0) -> str:
        """Read on until it has written this."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline, self.text[-2000:]
            if select.select([self._master], [], [], 0.2)[0] and not self._read():
                break
        assert re.search(pattern, self.text), self.text[-2000:]
        return self.text

    def _read(self) -> bool:
        try:
            data = os.read(self._master, 65_536)
        except OSError:  # the program has left its terminal
            return False
        self.text += data.decode(errors="replace")
        return bool(data)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def close(self) -> None:
        """The window is closed; returns when the program has ended."""
        os.close(self._master)
        os.waitpid(self.pid, 0)

    def end(self) -> int:
        """Read what is left; the exit code. Fails with what it wrote when it does not end."""
        deadline = time.monotonic() + PATIENCE_S
        while not select.select([self._master], [], [], 0.2)[0] or self._read():
            assert time.monotonic() < deadline, self.text[-2000:]
        _, code = os.waitpid(self.pid, 0)
        os.close(self._master)
        return os.waitstatus_to_exitcode(code)


def test_on_a_terminal_there_are_colours_unless_they_are_not_wanted(cluster: Cluster) -> None:
    said(cluster, "submit", "echo", "--wait")
    for more, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        terminal = Terminal(cluster, COMMAND, "tasks", more=more)
        assert terminal.end() == 0
        assert "success" in terminal.text
        assert ("\x1b[32m" in terminal.text) is coloured


def test_watch_redraws_when_something_happens_and_ends_with_ctrl_c(cluster: Cluster) -> None:
    terminal = Terminal(cluster, STATUS, f"127.0.0.1:{cluster.port}", "--watch")
    terminal.until("devices online")
    blocked = cluster.submit(requirements={"required_tags": ["nowhere"]})
    terminal.until(blocked)
    terminal.type("\x03")
    assert terminal.end() == 0


def test_a_watch_outlives_its_server(tmp_path: Path) -> None:
    with running(tmp_path) as own:
        until(lambda: own.get("devices?status=online"), "the local node")
        terminal = Terminal(own, STATUS, f"127.0.0.1:{own.port}", "--watch")
        terminal.until("online")
        own.server.kill()
        terminal.until("as of ", 120)
        own.start()
        terminal.text = ""
        terminal.until("Ctrl-C ends", 120)
        terminal.type("\x03")
        assert terminal.end() == 0


def test_run_says_on_a_terminal_why_it_waits(cluster: Cluster) -> None:
    terminal = Terminal(cluster, COMMAND, "run", "--tag", "nowhere", "--", "true")
    terminal.until(r"task [0-9a-f-]+ waits: .*nowhere")
    terminal.type("\x03")
    assert terminal.end() == 130


def test_a_task_cannot_steer_the_terminal(cluster: Cluster) -> None:
    terminal = Terminal(cluster, COMMAND, "run", "--", r"printf '\033]0;mine\007\033[31mred\033[0m\n'")
    assert terminal.end() == 0
    assert "\x1b[31mred" in terminal.text
    assert "\x1b]0;" not in terminal.text
