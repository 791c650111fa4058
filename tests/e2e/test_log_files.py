"""`--log-file` of real processes: JSON lines without secrets, for the owner only; a bad file stops nothing."""

import json
import re
import stat
from pathlib import Path
from typing import Any

from tests.e2e.cluster import Cluster, Process, clean_environment, until

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "logs.md"


def described() -> set[str]:
    """The fields of the reference's tables."""
    fields, _, _ = REFERENCE.read_text().partition("## Actions")
    return set(re.findall(r"^\| `(\w+)` \|", fields, re.MULTILINE))


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_server_and_agent_write_files_and_no_secret_into_them(tmp_path: Path) -> None:
    log, agent_log = tmp_path / "server.log", tmp_path / "agent.log"
    cluster = Cluster(tmp_path / "cluster")
    cluster.variables["RETIRE_CLUSTER_LOG_FILES"] = "2"
    try:
        server = cluster.start("--no-local-node", "--debug", "--log-file", str(log))
        secrets = [(cluster.data_dir / name).read_text().strip() for name in ("api-key", "join-token")]
        agent = cluster.join("alice", "--debug", "--log-file", str(agent_log))
        cluster.online("alice")
        for header in ({"X-API-Key": secrets[0]}, {"X-API-Key": f"{secrets[0]}x"}):
            cluster.api.get(f"/api/v1/devices?key={secrets[0]}", headers=header)
        cluster.ended(cluster.submit())
        assert agent.interrupt() == 0
        until(lambda: "GET" in log.read_text(), "the log of a request")
    finally:
        cluster.stop()

    assert {line["path"] for line in lines(log) if "path" in line} >= {"/api/v1/devices", "/api/v1/tasks"}
    assert "stopped" in [line["message"] for line in lines(agent_log)]
    ours = [
        line
        for line in lines(log) + lines(agent_log)
        if line["logger"].startswith(("api.", "retire_cluster"))
    ]
    assert {field for line in ours for field in line} - described() == set()
    assert all(line.keys() >= {"timestamp", "level", "logger", "message"} for line in lines(log))
    identity = json.loads((tmp_path / "cluster" / "alice" / "agent" / "agent.json").read_text())
    secrets.append(identity["secret"])
    for file in (log, agent_log):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert not [secret for secret in secrets if secret in file.read_text()]
    assert agent.said() == ""
    assert "timestamp" not in server.said(), "the log went to the file, what is for people did not"
    assert "Retire-Cluster is up." in server.said()


def test_a_log_file_that_cannot_be_written_is_said_once_and_the_cluster_works(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "cluster")
    cluster.variables["RETIRE_CLUSTER_LOG_FILE"] = "/dev/full"
    try:
        server = cluster.start()
        assert cluster.ended(cluster.submit())["status"] == "success"
        said = server.said()
        assert said.count("cannot write the log file /dev/full: No space left on device") == 1
        assert '"path": "/api/v1/tasks"' in said, "the lines go to standard error instead"
    finally:
        cluster.stop()


def test_a_bad_size_is_one_line(tmp_path: Path) -> None:
    variables = {**clean_environment(), "RETIRE_CLUSTER_LOG_FILE_MB": "big"}
    variables["RETIRE_CLUSTER_DATA_DIR"] = str(tmp_path / "data")
    for command in ("retire-cluster-api", "retire-cluster-main", "retire-cluster-worker"):
        words = ("--join", "127.0.0.1:1") if command.endswith("worker") else ()
        process = Process(tmp_path / command, command, *words, environment=variables)
        assert process.wait() == 2
        complaint = "RETIRE_CLUSTER_LOG_FILE_MB: must be a whole number, is 'big'"
        assert process.said() == f"{command}: {complaint}\n"
