"""Results of tasks that are waited for: in the order of the file, each as it is there, with few calls."""

import io
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from retire_cluster.terminal import main
from retire_cluster.terminal.exits import Exit
from tests.unit.sdk.network import CREATED, failure, success, task_row
from tests.unit.terminal.test_hostile import Screen, shown_on, use

BARE = {
    "execution_time_seconds": 0.5,
    "worker_device_id": "d",
    "started_at": None,
    "completed_at": CREATED,
    "error_traceback": None,
}


class Cluster:
    """Of its tasks is given how each ends, None: never. It notes the calls, and what was printed before each."""

    def __init__(self, *ends: str | None, at_once: int = 100) -> None:
        self.at_once = at_once  # results in an answer
        self.ends = {f"t{number}": end for number, end in enumerate(ends)}
        self.calls: list[str] = []
        self.printed: list[str] = []
        self.output: io.StringIO | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1")
        self.calls.append(f"{request.method} {path}")
        if self.output:
            self.printed.append(self.output.getvalue())
        if request.method == "POST":
            rows = [task_row(task_id) for task_id in self.ends]
            return success({"tasks": rows} if path.endswith("/batch") else {"task": rows[0]}, 201)
        if path == "/tasks":
            wanted = request.url.params.get_list("status")
            found = [row for row in map(self._row, self.ends) if not wanted or row["status"] in wanted]
            return success(found, pagination={"has_next": False})
        if path == "/tasks/results":
            found = [
                self._result(item) for item in request.url.params["task_id"].split(",") if self.ends[item]
            ]
            return success({"results": found[: self.at_once], "open": [], "left_out": [], "unknown": []})
        *_, task_id, what = path.split("/")
        if what == "status":
            return success(self._row(task_id))
        if self.ends[task_id] is None:
            return failure(404, "RESULT_NOT_READY", status="running")
        return success(self._result(task_id))

    def _result(self, task_id: str) -> dict[str, Any]:
        end = self.ends[task_id]
        error = None if end == "success" else "it broke"
        ended = {"status": end, "result_data": {"of": task_id}, "error_message": error}
        return {**BARE, "task_id": task_id, **ended}

    def _row(self, task_id: str) -> dict[str, Any]:
        return task_row(task_id, self.ends[task_id] or "running")


@pytest.fixture
def file(tmp_path: Path) -> str:
    found = tmp_path / "tasks.jsonl"
    found.write_text('{"task_type": "echo", "payload": {}}\n' * 3)
    return str(found)


def test_each_result_is_printed_before_the_next_is_asked_for(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster("success", "failed", "success", at_once=1)
    use(monkeypatch, cluster)
    cluster.output = output = io.StringIO()
    monkeypatch.setattr("sys.stdout", output)
    assert main.main(["submit", "--file", file, "--wait"]) == Exit.FAILED
    lines = ['{"of": "t0"}\n', "failed: it broke\n", '{"of": "t2"}\n']
    assert output.getvalue() == "".join(lines)
    many = "GET /tasks/results"
    assert cluster.calls == ["POST /tasks/batch", many, many, "GET /tasks/t2/result"]
    assert cluster.printed == ["", "", lines[0], lines[0] + lines[1]]


@pytest.mark.parametrize("ends", [("success", "failed", "success"), ("success", None, "success")])
def test_as_json_they_are_one_list_whatever_ends_it(
    ends: tuple[str | None, ...],
    file: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use(monkeypatch, Cluster(*ends))
    main.main(["submit", "--file", file, "--wait-s", "1", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [item["task_id"] for item in found] == (["t0", "t1", "t2"] if ends[1] else ["t0"])


def test_time_that_is_up_says_how_many_are_open(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Cluster("success", None, "success")
    use(monkeypatch, cluster)
    assert main.main(["submit", "--file", file, "--wait", "--wait-s", "1"]) == Exit.TIMED_OUT
    found = capsys.readouterr()
    assert found.out == '{"of": "t0"}\n'
    assert "1 of 3 tasks have not ended after 1 s" in found.err
    assert "t1: `retire-cluster explain TASK`" in found.err


@pytest.mark.parametrize("words", ["submit echo --wait-s 1", "result t0 --wait-s 1"])
@pytest.mark.parametrize("also", [[], ["--wait"]])
def test_a_limit_of_a_wait_is_a_wait(
    words: str, also: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, Cluster(None))
    assert main.main([*words.split(), *also]) == Exit.TIMED_OUT
    assert capsys.readouterr().err == (
        "retire-cluster: task t0 is running after 1 s; it goes on: `retire-cluster result --wait TASK` waits on, "
        "`retire-cluster explain TASK` says where it can run, `retire-cluster cancel TASK` ends it\n"
    )


@pytest.mark.parametrize("many", [1, 3])
def test_a_bar_is_in_the_way_of_no_result(many: int, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Cluster(*["success"] * many))
    screen = Screen()
    words = ["submit", "echo", "--wait"] if many == 1 else ["submit", "--file", file, "--wait"]
    assert shown_on(screen, words) == Exit.OK
    lines = re.sub(r"\x1b\[[?\d]*\w", "", screen.text()).splitlines()
    assert [line for line in lines if "of" in line] == [f'{{"of": "t{number}"}}' for number in range(many)]
