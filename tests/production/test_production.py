"""The same code on PostgreSQL, Redis and Celery: any process serves any client, and a death loses nothing."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from celery import Celery

from retire_cluster.protocol.tasktypes import BUILTIN_TYPES
from tests.e2e.cluster import until
from tests.production.shape import Production, running

AGENTS = ("attic", "cellar", "garage", "shed")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    with running(tmp_path_factory.mktemp("production")) as found:
        found.join_all(*AGENTS)
        yield found


@pytest.fixture(params=["gunicorn", "uvicorn"])
def api(cluster: Production, request: pytest.FixtureRequest) -> httpx.Client:
    return cluster.api if request.param == "gunicorn" else cluster.other_api


def post(client: httpx.Client, path: str, body: Any = None, **headers: str) -> Any:
    answer = client.post(f"/api/v1/{path}", json={} if body is None else body, headers=headers)
    assert answer.status_code < 300, answer.text
    return answer.json()["data"]


def get(client: httpx.Client, path: str) -> Any:
    answer = client.get(f"/api/v1/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


SAMPLES: dict[str, dict[str, Any]] = {
    "echo": {"n": 1},
    "sleep": {"duration": 0.01},
    "system_info": {},
    "python_eval": {"expression": "2 ** 10"},
    "http_request": {"url": "http://127.0.0.1:PORT/health", "allow_private": True},
    "command": {"command": "echo hello"},
}


@pytest.mark.parametrize("task_type", BUILTIN_TYPES)
def test_every_api_process_runs_tasks_on_every_device(
    cluster: Production, api: httpx.Client, task_type: str
) -> None:
    for name in AGENTS:
        post(cluster.api, f"devices/{name}/uncordon")
    payload = {
        name: value.replace("PORT", str(cluster.port)) if isinstance(value, str) else value
        for name, value in SAMPLES[task_type].items()
    }
    ran_on = set()
    for name in AGENTS:
        others = [other for other in AGENTS if other != name]
        for other in others:
            post(api, f"devices/{other}/cordon")
        task_id = post(api, "tasks", {"task_type": task_type, "payload": payload})["task_id"]
        task = cluster.ended(task_id)
        assert task["status"] == "success", task
        ran_on.add(task["assigned_device_id"])
        for other in others:
            post(api, f"devices/{other}/uncordon")
    assert ran_on == set(AGENTS)


def test_what_one_api_process_starts_the_other_cancels(cluster: Production) -> None:
    task_id = cluster.submit("command", {"command": "echo begun; sleep 600"})
    until(
        lambda: get(cluster.other_api, f"tasks/{task_id}/logs")["chunks"], "its output, in the other process"
    )
    post(cluster.other_api, f"tasks/{task_id}/cancel")
    assert cluster.ended(task_id)["status"] == "cancelled"


def test_every_device_answers_a_ping_of_every_process(api: httpx.Client) -> None:
    for name in AGENTS:
        answer = post(api, f"devices/{name}/ping")
        assert answer["ping_successful"], answer


def test_a_change_of_the_configuration_reaches_every_agent(cluster: Production) -> None:
    def beats() -> dict[str, int]:
        return {name: get(cluster.api, f"devices/{name}")["total_heartbeats"] for name in AGENTS}

    answer = cluster.other_api.put("/api/v1/config/heartbeat", json={"interval": 1, "timeout": 10})
    assert answer.status_code == 200, answer.text
    before = beats()
    # Written to the table every 15 s, and only then seen by a process that owns no device.
    until(lambda: all(now > before[name] for name, now in beats().items()), "a heartbeat of every agent")


def test_the_same_key_at_two_processes_in_the_same_moment_is_one_task(cluster: Production) -> None:
    body = {"task_type": "echo", "payload": {"once": True}}
    for number in range(10):
        with ThreadPoolExecutor(8) as pool:
            clients = [cluster.api, cluster.other_api] * 4
            key = f"at-once-{number}"
            calls = [
                pool.submit(post, client, "tasks", body, **{"Idempotency-Key": key}) for client in clients
            ]
            assert len({call.result()["task_id"] for call in calls}) == 1


def test_celery_s_workers_do_their_jobs(cluster: Production) -> None:
    inspector = Celery(broker=cluster.variables["RETIRE_CLUSTER_REDIS_URL"]).control.inspect(timeout=5)

    def done() -> Counter[str]:
        stats = inspector.stats() or {}
        assert len(stats) <= 2
        return sum((Counter(worker["total"]) for worker in stats.values()), Counter())

    until(lambda: {"tasks.dispatch", "tasks.sweep"} <= done().keys(), "dispatch and sweep to run in workers")


def test_a_killed_gateway_s_devices_move_and_their_work_goes_on(cluster: Production) -> None:
    for name in AGENTS:
        post(cluster.api, f"devices/{name}/uncordon")
    tasks = [cluster.submit("sleep", {"duration": 8}) for _ in AGENTS]
    until(
        lambda: all(get(cluster.api, f"tasks/{task}/status")["status"] == "running" for task in tasks),
        "all to run",
    )
    cluster.gateways[0].kill()
    ended = [cluster.ended(task) for task in tasks]
    assert [task["status"] for task in ended] == ["success"] * len(tasks)
    assert [len(task["attempts"]) for task in ended] == [1] * len(tasks), "nobody began anew"
    for name in AGENTS:
        cluster.online(name)
    cluster.gateways[0] = cluster.start_one_gateway(cluster.gateway_port)


def test_no_log_tells_of_an_error(cluster: Production) -> None:
    for process in cluster.processes:
        for line in process.said().splitlines():
            assert "Traceback" not in line, (process.output.name, line)
