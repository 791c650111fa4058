"""Every process restarted in turn under load, as an upgrade does: no task is lost, and clients hardly notice."""

import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import psycopg
import pytest

from tests.e2e.cluster import Process, until
from tests.production import nginx
from tests.production.nginx import NAME, Nginx, Upstreams
from tests.production.shape import START_S, Production, prepared

AGENTS = ("attic", "cellar", "garage")
CLIENTS = 6
STEP = 8  # tasks that end between one restart and the next

pytestmark = pytest.mark.timeout(900)  # seconds; the first test's include starting everything


@dataclass(frozen=True)
class Failure:
    """A request that got no answer of the API. Times of day, as in nginx's log."""

    began: float
    ended: float
    what: str


@dataclass
class Load:
    """Clients that submit with keys, wait for results, and try again what failed."""

    proxy: Nginx
    key: str
    name: str = field(default_factory=lambda: uuid.uuid4().hex)  # keys of its own
    over: threading.Event = field(default_factory=threading.Event)
    failures: list[Failure] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)  # by task
    expected: dict[str, Any] = field(default_factory=dict)

    clients: list[Future[None]] = field(default_factory=list)
    answers: list[nginx.Answer] = field(default_factory=list)  # all, once it is over

    def go_on(self) -> None:
        """Wait until some more tasks have ended."""
        done = len(self.results)
        until(lambda: self._done() >= done + STEP, "the load to go on", START_S)

    def _done(self) -> int:
        for client in self.clients:
            if client.done():
                client.result()  # raises what ended it
        return len(self.results)

    def run(self, client: int) -> None:
        with self.proxy.client(**{"X-API-Key": self.key}) as http:
            number = 0
            while not self.over.is_set():
                number += 1
                self._one_task(http, f"{self.name}-{client}-{number}")

    def _one_task(self, http: httpx.Client, name: str) -> None:
        kind, payload = ("sleep", {"duration": 0.3}) if name.endswith("3") else ("echo", {"name": name})
        body = {"task_type": kind, "payload": payload}
        key = {"Idempotency-Key": name}
        answer = self._until_answered(lambda: http.post("/api/v1/tasks?wait=5", json=body, headers=key))
        assert answer.status_code == 201, answer.text
        task = str(answer.json()["data"]["task_id"])
        self.expected[task] = {"slept_for": 0.3} if kind == "sleep" else {"echo": payload}
        while True:
            answer = self._until_answered(lambda: http.get(f"/api/v1/tasks/{task}/result?wait=20"))
            if answer.status_code == 200:
                break
            assert answer.json()["error_code"] == "RESULT_NOT_READY", answer.text
        self.results[task] = answer.json()["data"]

    def _until_answered(self, call: Callable[[], httpx.Response]) -> httpx.Response:
        while True:
            began = time.time()
            try:
                answer = call()
                if answer.status_code < 500:
                    return answer
                what = f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
            except httpx.HTTPError as error:
                what = f"{error.request.method} {error.request.url}: {error!r}"
            self.failures.append(Failure(began, time.time(), what))


@dataclass(frozen=True)
class Stop:
    """When the API process on a port was stopping."""

    port: int
    began: float
    ended: float


@dataclass
class Restarts:
    """Stops and starts processes, and remembers when an API process was stopping."""

    load: Load
    api_stops: list[Stop] = field(default_factory=list)

    def restart(
        self, process: Process, start: Callable[[], Process], *, serves_clients_at: int | None = None
    ) -> Process:
        self.load.go_on()
        began = time.time()
        code = process.terminate()
        if serves_clients_at is not None:
            self.api_stops.append(Stop(serves_clients_at, began, time.time()))
        assert code in (0, -signal.SIGTERM), process.said()
        return start()

    def excuses(self, failure: Failure) -> bool:
        """Whether it was under way while an API process was being stopped."""
        return any(failure.began <= stop.ended and failure.ended >= stop.began for stop in self.api_stops)

    def excuses_answer(self, answer: nginx.Answer) -> bool:
        """Whether it was the process being stopped, and not another one, that nginx had asked last."""
        return any(
            answer.asked[-1] == stop.port
            and answer.ended >= int(stop.began)  # the log has whole seconds
            and answer.ended - answer.took_s <= stop.ended
            for stop in self.api_stops
        )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    variables = {"RETIRE_CLUSTER_TRUSTED_PROXIES": "127.0.0.1", "RETIRE_CLUSTER_ALLOWED_HOSTS": NAME}
    with prepared(tmp_path_factory.mktemp("rolling"), **variables) as found:
        found.gunicorn_threads = 4
        found.start_all()
        found.join_all(*AGENTS)
        yield found


@contextmanager
def under_load(cluster: Production) -> Iterator[Load]:
    upstreams = Upstreams(api=(cluster.port, cluster.other_port), live=(cluster.other_port,))
    with nginx.running(upstreams) as proxy, ThreadPoolExecutor(CLIENTS) as pool:
        load = Load(proxy, cluster.key)
        load.clients = [pool.submit(load.run, number) for number in range(CLIENTS)]
        try:
            yield load
        finally:
            load.over.set()
        for client in load.clients:
            client.result(60)
        load.answers = proxy.answers()


def restart_everything(cluster: Production, restarts: Restarts) -> None:
    """As docs/howto/production.md says it."""
    for number, port in enumerate((cluster.gateway_port, cluster.other_gateway_port)):
        start = partial(cluster.start_one_gateway, port)
        cluster.gateways[number] = restarts.restart(cluster.gateways[number], start)
    restarts.restart(cluster.named("gunicorn"), cluster.start_gunicorn, serves_clients_at=cluster.port)
    cluster.serves(cluster.api)
    restarts.restart(cluster.named("uvicorn"), cluster.start_uvicorn, serves_clients_at=cluster.other_port)
    cluster.serves(cluster.other_api)
    for number in (1, 2):
        restarts.restart(cluster.named(f"celery-{number}"), partial(cluster.start_worker, number))
    restarts.restart(cluster.named("beat"), cluster.start_beat)
    for number, name in enumerate(AGENTS):
        restarts.restart(cluster.named(name), partial(cluster.start_agent_at_both, name, number))
        cluster.online(name)


def test_nothing_is_lost_while_every_process_is_restarted(cluster: Production) -> None:
    with under_load(cluster) as load:
        restarts = Restarts(load)
        restart_everything(cluster, restarts)
    assert [failure for failure in load.failures if not restarts.excuses(failure)] == []
    assert len(load.failures) <= 2 * CLIENTS, load.failures  # one for each client and stop
    assert len(load.answers) > len(load.expected), "nginx's log is read"
    failed = [answer for answer in load.answers if answer.status >= 500]
    assert [answer for answer in failed if not restarts.excuses_answer(answer)] == []
    assert len(load.results) == len(load.expected) >= STEP * 9
    for task, result in load.results.items():
        assert (result["status"], result["result_data"]) == ("success", load.expected[task])
    assert recorded_successes(cluster) == dict.fromkeys(load.expected, 1), (
        "no key made two tasks, no task has two"
    )


def recorded_successes(cluster: Production) -> dict[str, int]:
    """How many results are recorded for each task there is."""
    query = """
        SELECT task.id::text, count(attempt.id) FILTER (WHERE attempt.outcome = 'success')
        FROM tasks_task task LEFT JOIN tasks_attempt attempt ON attempt.task_id = task.id GROUP BY task.id
    """
    with psycopg.connect(cluster.variables["RETIRE_CLUSTER_DATABASE_URL"]) as database:
        return dict(database.execute(query).fetchall())


def test_new_workers_of_gunicorn_cost_no_request(cluster: Production) -> None:
    """SIGHUP: the socket stays, workers are replaced."""
    gunicorn = cluster.named("gunicorn")
    with under_load(cluster) as load:
        for number in range(3):
            booted = boots(gunicorn)
            gunicorn.send_signal(signal.SIGHUP)
            until(partial(has_booted, gunicorn, booted + 2), f"new workers the {number + 1}. time", START_S)
            load.go_on()
    assert load.failures == []


def boots(gunicorn: Process) -> int:
    return gunicorn.said().count("Booting worker")


def has_booted(gunicorn: Process, times: int) -> bool:
    return boots(gunicorn) >= times


@pytest.mark.parametrize("server", ["uvicorn", "gunicorn"])
def test_a_server_that_stops_answers_whoever_waits(cluster: Production, server: str) -> None:
    client, start = {
        "uvicorn": (cluster.other_api, cluster.start_uvicorn),
        "gunicorn": (cluster.api, cluster.start_gunicorn),
    }[server]
    body = {"task_type": "echo", "payload": {}, "requirements": {"required_tags": ["nobody-has-this"]}}
    process = cluster.named(server)
    before = len(process.said())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.post, "/api/v1/tasks?wait=60", json=body)
        until(lambda: client.get("/api/v1/tasks?status=queued").json()["data"], "it to wait")
        assert process.terminate() in (0, -signal.SIGTERM)
        answer = waiting.result(0)
    assert (answer.status_code, answer.json()["data"]["task"]["status"]) == (201, "queued")
    assert "Traceback" not in process.said()[before:]
    start()
    cluster.serves(client)
