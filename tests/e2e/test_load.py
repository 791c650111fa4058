"""Many tasks at once, and devices that differ: everything ends once, where it may."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Cluster, running

TASKS = 300  # several batches of every hop, and more than a page
CLIENTS = 4


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with running(tmp_path) as found:
        yield found


def test_hundreds_of_tasks_of_a_script_all_succeed_once(cluster: Cluster) -> None:
    cluster.join("helper", "--slots", "8")

    with ThreadPoolExecutor(CLIENTS) as pool:
        ids = list(pool.map(lambda number: cluster.submit("echo", {"number": number}), range(TASKS)))
        details = list(pool.map(cluster.ended, ids))

    assert len(set(ids)) == TASKS
    assert Counter(task["status"] for task in details) == {"success": TASKS}
    assert [task["result"] for task in details] == [{"echo": {"number": number}} for number in range(TASKS)]
    assert {len(task["attempts"]) for task in details} == {1}
    listed = cluster.api.get("/api/v1/tasks", params={"status": "success", "page_size": 1}).json()
    assert listed["pagination"]["total_items"] == TASKS


# device -> its flags; every requirement below fits some of them and not the others.
DEVICES = {
    "phone": ("--role", "mobile", "--tags", "pocket,slow", "--slots", "1"),
    "nas": ("--role", "storage", "--tags", "disks", "--slots", "2", "--task-types", "echo,sleep"),
    "box": ("--role", "compute", "--tags", "fast,disks", "--slots", "4", "--max-memory-gb", "1"),
}
ANYWHERE = set(DEVICES)
WISHES: list[tuple[str, dict[str, Any], set[str]]] = [
    ("echo", {}, ANYWHERE),
    ("echo", {"required_platform": "linux", "min_cpu_cores": 1}, ANYWHERE),
    ("echo", {"required_role": "mobile"}, {"phone"}),
    ("echo", {"required_role": "storage"}, {"nas"}),
    ("echo", {"required_tags": ["disks"]}, {"nas", "box"}),
    ("echo", {"required_tags": ["disks", "fast"]}, {"box"}),
    ("sleep", {"required_tags": ["pocket"]}, {"phone"}),
    ("system_info", {}, {"phone", "box"}),
    ("echo", {"min_memory_gb": 1.5}, {"phone", "nas"}),
]


def test_no_task_runs_where_its_requirements_do_not_hold(tmp_path: Path) -> None:
    with running(tmp_path, "--no-local-node") as cluster:
        for device, flags in DEVICES.items():
            cluster.join(device, *flags)
            cluster.online(device)
        hopeless = cluster.submit("echo", {}, priority="urgent", requirements={"required_tags": ["absent"]})

        submitted = [
            (cluster.submit(task_type, _payload(task_type), requirements=wish), allowed)
            for _ in range(6)
            for task_type, wish, allowed in WISHES
        ]
        for task_id, allowed in submitted:
            task = cluster.ended(task_id)
            assert task["status"] == "success", task
            assert {attempt["device_id"] for attempt in task["attempts"]} <= allowed, task["requirements"]

        waiting = cluster.get(f"tasks/{hopeless}/status")
        assert waiting["status"] == "queued"
        assert "absent" in waiting["queue_reason"]


def _payload(task_type: str) -> dict[str, Any]:
    return {"duration": 0.01} if task_type == "sleep" else {}
