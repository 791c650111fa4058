"""The calls of an existing client of this API, as it makes them: JSON content type on each, GET included."""

import time
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.cluster import running, until

HEADERS = {"Content-Type": "application/json"}


def test_an_existing_client_finds_all_it_reads(tmp_path: Path) -> None:
    with (
        running(tmp_path) as cluster,
        httpx.Client(base_url=f"http://127.0.0.1:{cluster.port}", headers=HEADERS, timeout=30) as client,
    ):
        until(lambda: cluster.get("devices?status=online"), "the local node")
        first = make_all_calls(client)
        until(  # figures are remembered for a moment
            lambda: cluster.get("tasks/statistics")["queue_stats"]["by_status"]["success"] == 8,
            "all eight to be counted",
        )
        retry = client.post(f"/api/v1/tasks/{first}/retry", content=b"")
        assert retry.status_code == 401  # a body-less POST is looked at like any other: this one needs a key


def make_all_calls(client: httpx.Client) -> str:
    """What such a client does from its start; the id of its first task. A device has to be online."""

    def get(path: str) -> Any:
        answer = client.get(f"/api/v1/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    assert client.get("/health").json()["status"] == "healthy"
    assert get("cluster/status")["cluster_stats"]["total_resources"]["cpu_cores"] >= 1
    (device,) = get("devices?status=online&page_size=10")
    capabilities = get(f"devices/{device['device_id']}")["capabilities"]
    assert capabilities["cpu_count"] >= 1
    assert capabilities["memory_total_gb"] > 0
    assert {"echo", "sleep", "system_info", "python_eval"} <= set(get("tasks/types")["supported_types"])

    bodies = [
        {"task_type": "echo", "payload": {"message": "Hello"}},
        {"task_type": "system_info", "payload": {}, "requirements": {"required_role": device["role"]}},
        {"task_type": "sleep", "payload": {"duration": 2.0}},
    ]
    ids = [client.post("/api/v1/tasks", json=body).json()["data"]["task_id"] for body in bodies]
    open_ids = set(ids)
    deadline = time.monotonic() + 60
    while open_ids and time.monotonic() < deadline:
        open_ids = {task for task in open_ids if not get(f"tasks/{task}/status")["is_terminal"]}
        time.sleep(1)  # as that client does
    assert not open_ids
    results = [get(f"tasks/{task}/result") for task in ids]
    assert [result["status"] for result in results] == ["success"] * 3
    # The clock the device measures with may tick a little before the one it sleeps by.
    assert results[2]["execution_time_seconds"] >= 1.9

    assert get("tasks/statistics")["queue_stats"]["by_status"]["success"] >= 3
    assert {task["task_id"] for task in get("tasks?page=1&page_size=5")} >= set(ids)
    assert get("devices/summary")["resource_totals"]["memory_gb"] > 0
    assert get("devices?tags=gpu-capable") == []
    powers = [
        client.post(
            "/api/v1/tasks", json={"task_type": "python_eval", "payload": {"expression": f"2 ** {i}"}}
        ).json()["data"]["task_id"]
        for i in range(5)
    ]
    found = [client.get(f"/api/v1/tasks/{task}/result?wait=30").json()["data"] for task in powers]
    assert [result["result_data"]["result"] for result in found] == [1, 2, 4, 8, 16]
    return str(ids[0])
