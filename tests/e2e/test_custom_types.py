"""A task type of a device owner's own, and a command that prints, as clients see them while they run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster, running, until

HANDLERS = """
import time
from pathlib import Path
from retire_cluster.agent import handler

@handler("crawl")
def crawl(payload, ctx):
    ctx.progress(25, "looking around")
    ctx.log("found a door")
    print("it is open", flush=True)
    gate = Path(payload["gate"])
    while not gate.exists() and not ctx.cancelled:
        time.sleep(0.01)
    return {"entered": not ctx.cancelled}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("custom")
    handlers = directory / "crawlers.py"
    handlers.write_text(HANDLERS)
    with running(directory / "cluster", "--no-local-node") as found:
        found.api.headers["X-API-Key"] = (found.data_dir / "api-key").read_text().strip()
        found.join("owner", "--handlers", str(handlers), "--task-types", "echo,crawl,command")
        found.online("owner")
        yield found


def printed(cluster: Cluster, task_id: str) -> list[tuple[str, str]]:
    return [(chunk["stream"], chunk["text"]) for chunk in cluster.get(f"tasks/{task_id}/logs")["chunks"]]


def test_a_custom_type_is_offered_and_what_it_tells_is_seen_while_it_runs(
    cluster: Cluster, tmp_path: Path
) -> None:
    types = cluster.get("tasks/types")
    assert (types["custom_types"], types["devices_by_type"]["crawl"]) == (["crawl"], 1)
    assert "python_eval" not in types["supported_types"]

    gate = tmp_path / "gate"
    task_id = cluster.submit("crawl", {"gate": str(gate)})
    status = until(
        lambda: (found := cluster.get(f"tasks/{task_id}/status"))["progress"] is not None and found,
        "the progress",
    )
    assert (status["status"], status["progress"], status["progress_message"]) == (
        "running",
        25.0,
        "looking around",
    )
    until(lambda: len(printed(cluster, task_id)) == 2, "what it tells")
    assert sorted(printed(cluster, task_id)) == [("log", "found a door\n"), ("stdout", "it is open\n")]
    gate.touch()
    assert cluster.ended(task_id)["result"] == {"entered": True}
    assert cluster.get(f"tasks/{task_id}/logs")["is_complete"]


def test_a_custom_task_can_be_cancelled(cluster: Cluster, tmp_path: Path) -> None:
    task_id = cluster.submit("crawl", {"gate": str(tmp_path / "never")})
    until(lambda: printed(cluster, task_id), "it to run")
    answer = cluster.api.post(f"/api/v1/tasks/{task_id}/cancel")
    assert answer.status_code == 200
    ended = cluster.ended(task_id)
    assert (ended["status"], ended["attempts"][0]["confirmed"]) == ("cancelled", True)


def test_lines_of_a_command_arrive_while_it_runs(cluster: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"echo one; echo two >&2; until [ -e {gate} ]; do sleep 0.05; done; echo three"
    task_id = cluster.submit("command", {"command": script})
    until(lambda: len(printed(cluster, task_id)) == 2, "the first lines")
    assert sorted(printed(cluster, task_id)) == [("stderr", "two\n"), ("stdout", "one\n")]
    assert cluster.get(f"tasks/{task_id}/status")["status"] == "running"
    gate.touch()
    assert cluster.ended(task_id)["result"]["stdout"] == "one\nthree\n"
    log = cluster.get(f"tasks/{task_id}/logs")
    assert (log["chunks"][-1]["text"], log["is_complete"]) == ("three\n", True)


def test_what_is_printed_while_the_server_is_away_arrives_when_it_is_back(
    cluster: Cluster, tmp_path: Path
) -> None:
    gate, second = tmp_path / "gate", tmp_path / "second"
    script = (
        f"echo one; until [ -e {gate} ]; do sleep 0.05; done; "
        f"echo two; touch {second}; until [ -e {gate}2 ]; do sleep 0.05; done; echo three"
    )
    task_id = cluster.submit("command", {"command": script})
    until(lambda: printed(cluster, task_id), "the first line")
    cluster.processes[0].kill()
    gate.touch()
    until(second.exists, "the command to go on")
    cluster.start("--no-local-node")
    until(lambda: len(printed(cluster, task_id)) == 2, "what was printed meanwhile")
    (tmp_path / "gate2").touch()
    assert cluster.ended(task_id)["result"]["stdout"] == "one\ntwo\nthree\n"
    assert "".join(text for _, text in printed(cluster, task_id)) == "one\ntwo\nthree\n"


def test_a_handler_that_cannot_be_loaded_ends_the_agent_with_the_reason(
    cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("import no_such_library\n")
    agent = cluster.join("broken", "--handlers", str(tmp_path / "broken.py"))
    assert agent.wait() == 2
    assert "No module named 'no_such_library'" in agent.said()


def test_an_unknown_type_of_the_owner_s_choice_ends_the_agent_with_those_there_are(cluster: Cluster) -> None:
    agent = cluster.join("choosy", "--task-types", "crawl")
    assert agent.wait() == 2
    assert "--task-types: 'crawl' is not a type of this agent; it has command, echo" in agent.said()
