"""What the production shape does while something it stands on is away, and that all goes on by itself later."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest
from celery import Celery

from tests.e2e.cluster import until
from tests.production.shape import Production, running

AGENTS = ("attic", "cellar")
BOUND_S = 25.0  # below what proxies and gunicorn allow; a wait without an end is far beyond
HEALTH_BOUND_S = 8.0  # a second, on a machine with nothing else to do
READS = (
    "tasks",
    "devices",
    "devices/attic",
    "cluster/status",
    "cluster/metrics",
    "tasks/statistics",
    "tasks/types",
)
WAYS = {"refused": ("stop", "start"), "silent": ("freeze", "thaw")}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    with running(tmp_path_factory.mktemp("outages"), RETIRE_CLUSTER_RATE_LIMITS="100000/minute") as found:
        found.join_all(*AGENTS)
        # A gateway without its database sends its agents away after half the silence that makes a device lost.
        beats = {"interval": 1, "timeout": 6, "max_missed": 6}
        assert found.api.put("/api/v1/config/heartbeat", json=beats).status_code == 200
        yield found


@pytest.fixture(autouse=True)
def _nobody_was_restarted(cluster: Production) -> Iterator[None]:
    """Whatever a test does to the cluster: afterwards it is whole, and nobody started a process for that."""
    running_now = [process for process in cluster.processes if process.alive()]
    yield
    for api in apis(cluster):
        until(lambda api=api: health(api)[1]["status"] == "healthy", "all to be well again")  # type: ignore[misc]
    for name in AGENTS:
        cluster.online(name)
    ids = [submit(api) for api in apis(cluster)]
    assert [cluster.ended(task_id)["status"] for task_id in ids] == ["success", "success"]
    # A test that kills a process on purpose takes it out of the list.
    gone = [process for process in running_now if process in cluster.processes and not process.alive()]
    assert [process.output.name for process in gone] == []
    assert "WORKER TIMEOUT" not in (cluster.directory / "gunicorn.log").read_text()


def apis(cluster: Production) -> tuple[httpx.Client, httpx.Client]:
    return cluster.api, cluster.other_api


def health(api: httpx.Client) -> tuple[int, Any]:
    answer = api.get("/health", timeout=HEALTH_BOUND_S)
    return answer.status_code, answer.json()


def submit(api: httpx.Client, task_type: str = "echo", payload: dict[str, Any] | None = None) -> str:
    body = {"task_type": task_type, "payload": payload or {}}
    answer = api.post("/api/v1/tasks", json=body, timeout=BOUND_S)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["data"]["task_id"])


def new_key(cluster: Production, limits: str) -> str:
    body = {"name": "limited", "scopes": ["read"], "rate_limits": limits}
    answer = cluster.api.post("/api/v1/keys", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["data"]["key"])


def admitted(key: str, *clients: httpx.Client) -> int:
    """How many of as many calls the key may make, by all clients in turn."""
    answers = [api.get("/api/v1/tasks/types", headers={"X-API-Key": key}) for api in clients]
    assert {answer.status_code for answer in answers} <= {200, 429}
    return sum(answer.status_code == 200 for answer in answers)


def celery_jobs(cluster: Production) -> dict[str, int]:
    """What each worker has done so far."""
    stats = Celery(broker=cluster.redis.url).control.inspect(timeout=2).stats() or {}
    return {name: sum(worker["total"].values()) for name, worker in stats.items()}


def test_every_api_process_counts_the_devices_of_all_gateways(cluster: Production) -> None:
    for name in AGENTS:
        cluster.online(name)
    for api in apis(cluster):
        # What was found just before is believed for 5 s.
        until(
            lambda api=api: health(api)[1]["services"]["gateway"]["devices_connected"] == len(AGENTS),  # type: ignore[misc]
            "health to count all of them",
        )


# --- Redis ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_without_redis_tasks_are_taken_and_run_and_limits_count_per_process(
    cluster: Production, way: str
) -> None:
    away, back = WAYS[way]
    uvicorn_s_log = cluster.directory / "uvicorn.log"
    said = uvicorn_s_log.read_text().count("rate limits are counted per process")
    key = new_key(cluster, "4/hour")
    assert admitted(key, *apis(cluster) * 3) == 4

    getattr(cluster.redis, away)()
    try:
        ids = [submit(api) for api in apis(cluster) * 5]
        assert {cluster.ended(task_id)["status"] for task_id in ids} == {"success"}
        assert admitted(key, *[cluster.other_api] * 6) == 4, "counted by this process alone"
        assert uvicorn_s_log.read_text().count("rate limits are counted per process") == said + 1
        for api in apis(cluster):
            status, told = until(lambda api=api: _degraded(api), "health to know of both")  # type: ignore[misc]
            assert status == 200
            assert told["components"]["cluster_server"] == "healthy"
            assert "rate limits count per process" in told["services"]["redis"]["reason"]
            assert "tasks are taken and run" in told["services"]["broker"]["reason"]
    finally:
        getattr(cluster.redis, back)()

    until(lambda: len(celery_jobs(cluster)) == 2, "Celery's workers to listen again")
    before = celery_jobs(cluster)
    until(lambda: sum(celery_jobs(cluster).values()) > sum(before.values()), "Celery's workers to work again")
    until(lambda: admitted(new_key(cluster, "4/hour"), *apis(cluster) * 4) == 4, "limits to be exact again")


def _degraded(api: httpx.Client) -> tuple[int, Any] | None:
    """What health says once it knows of Redis and the broker; what was well just before is believed for 5 s."""
    status, told = health(api)
    states = {told["components"][name] for name in ("api", "task_scheduler")}
    return (status, told) if states == {"degraded"} else None


# --- PostgreSQL -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_without_postgresql_everybody_is_told_so_and_results_wait_for_it(
    cluster: Production, way: str
) -> None:
    away, back = WAYS[way]
    runs = cluster.directory / f"runs-{way}"
    command = f"echo $RETIRE_CLUSTER_ATTEMPT >> {runs}; sleep 4; echo done"
    ids = [submit(api, "command", {"command": command}) for api in apis(cluster)]
    until(lambda: runs.exists() and len(runs.read_text().split()) == 2, "both tasks to run")
    sent_away = _agent_logs(cluster).count("cannot reach its database")

    getattr(cluster.database, away)()
    try:
        _everything_says_503(cluster)
        until(
            lambda: _agent_logs(cluster).count("cannot reach its database") > sent_away,
            "the gateways to send their agents elsewhere",
        )
        for api in apis(cluster):
            # One answer: the next may come from a worker that was not asked for some time.
            status, told = until(lambda api=api: _without_database(api), "health to know")  # type: ignore[misc]
            assert (status, told["status"]) == (503, "unhealthy")
            assert "agents keep working" in told["services"]["database"]["reason"]
    finally:
        getattr(cluster.database, back)()

    until(lambda: health(cluster.api)[0] == 200, "the database to be used again")
    for task_id in ids:
        task = cluster.ended(task_id)
        assert (task["status"], len(task["attempts"])) == ("success", 1), task
        assert task["result"]["stdout"] == "done\n"
    assert len(runs.read_text().split()) == 2, "nothing ran twice"


def _without_database(api: httpx.Client) -> tuple[int, Any] | None:
    status, told = health(api)
    return (status, told) if told["components"]["api"] == "unhealthy" else None


def _agent_logs(cluster: Production) -> str:
    return "".join((cluster.directory / f"{name}.log").read_text() for name in AGENTS)


def _everything_says_503(cluster: Production) -> None:
    """All at once: a process that waits for the database must still answer in time."""

    def refused(call: tuple[httpx.Client, str, str]) -> tuple[str, int, str, bool, bool]:
        api, method, path = call
        body = {"task_type": "echo", "payload": {}} if method == "POST" else None
        answer = api.request(method, path, json=body, timeout=BOUND_S * 2)
        code = answer.json()["error_code"] if path.startswith("/api") else "SERVICE_UNAVAILABLE"
        return path, answer.status_code, code, "Retry-After" in answer.headers, "Traceback" in answer.text

    paths = [("GET", f"/api/v1/{path}") for path in READS] + [
        ("POST", "/api/v1/tasks"),
        ("GET", "/metrics"),
        ("GET", "/"),
    ]
    calls = [(api, method, path) for api in apis(cluster) for method, path in paths]
    with ThreadPoolExecutor(len(calls)) as pool:
        answers = list(pool.map(refused, calls))
    assert answers == [(path, 503, "SERVICE_UNAVAILABLE", True, False) for _, _, path in calls]


def test_connections_that_were_cut_off_fail_nobody_who_comes_later(cluster: Production) -> None:
    task_id = submit(cluster.api, "sleep", {"duration": 2})
    for api in apis(cluster):
        assert api.get("/api/v1/tasks").status_code == 200, "there are connections to cut"
    with psycopg.connect(cluster.database.url, autocommit=True) as operator:
        cut = operator.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname IS NOT NULL AND pid <> pg_backend_pid()"
        ).fetchall()
    assert len(cut) >= 5
    for _ in range(10):
        for api in apis(cluster):
            assert api.get("/api/v1/tasks").status_code == 200
            submit(api)
    task = cluster.ended(task_id)
    assert (task["status"], len(task["attempts"])) == ("success", 1)


# --- a gateway ------------------------------------------------------------------------------------------------


def test_a_gateway_that_died_only_degrades_a_cluster_with_another_one(cluster: Production) -> None:
    asked = cluster.gateways[0]
    asked.kill()
    for api in apis(cluster):
        status, told = until(lambda api=api: _without_its_gateway(api), "the other gateway's sign of life")  # type: ignore[misc]
        assert status == 200
        assert told["components"]["task_scheduler"] == "healthy"
        # A process that has not looked for a while may count the dead one for some seconds, too.
        assert re.search(r"\d others? do(es)? the work", told["services"]["gateway"]["reason"])
    assert cluster.ended(submit(cluster.api))["status"] == "success"

    cluster.processes.remove(asked)
    cluster.gateways[0] = cluster.start_one_gateway(cluster.gateway_port)


def _without_its_gateway(api: httpx.Client) -> tuple[int, Any] | None:
    status, told = health(api)
    return (status, told) if told["components"]["cluster_server"] == "degraded" else None
