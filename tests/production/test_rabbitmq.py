"""RabbitMQ as Celery's broker, without any Redis: jobs run, and its death costs nobody anything."""

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from celery import Celery
from kombu import Connection
from kombu.exceptions import OperationalError

from tests import postgres
from tests.e2e.cluster import Process, until
from tests.production import rabbitmq
from tests.production.rabbitmq import RabbitMQ
from tests.production.shape import Production

JOBS = {"tasks.dispatch", "tasks.sweep"}
QUEUE = "retire-cluster"


class Site:
    """A gateway, uvicorn, a Celery worker, beat and a device, on that broker."""

    def __init__(self, cluster: Production, broker: RabbitMQ) -> None:
        self.cluster, self.broker = cluster, broker
        cluster.start_gateways()
        self.worker, self.beat = cluster.start_worker(1), cluster.start_beat()
        self.api: Process = cluster.start_uvicorn()
        cluster.serves(cluster.other_api)
        cluster.api = cluster.other_api  # gunicorn is left out
        cluster.api.headers["X-API-Key"] = cluster.key
        cluster.join_all("attic")

    def jobs_done(self) -> Counter[str]:
        """By the worker, since it started."""
        try:
            stats = Celery(broker=self.broker.url).control.inspect(timeout=2).stats() or {}
        except (OSError, OperationalError):
            return Counter()
        return sum((Counter(worker["total"]) for worker in stats.values()), Counter())

    def messages(self) -> int:
        """Waiting in the queue of the jobs."""
        with Connection(self.broker.url) as connection:
            channel: Any = connection.default_channel
            return int(channel.queue_declare(QUEUE, passive=True).message_count)

    def has_queue(self, name: str) -> bool:
        with Connection(self.broker.url) as connection:
            channel: Any = connection.default_channel
            try:
                channel.queue_declare(name, passive=True)
            except connection.channel_errors:
                return False
            return True

    def runs_a_task(self) -> None:
        """Submit within the client's patience, and see it end."""
        self.cluster.api.timeout = httpx.Timeout(5)
        task = self.cluster.submit("echo", {"alive": True})
        self.cluster.api.timeout = httpx.Timeout(70)
        assert self.cluster.ended(task)["status"] == "success"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ExitStack() as stack:
        database = stack.enter_context(postgres.running())
        broker = stack.enter_context(rabbitmq.running())
        cluster = Production(tmp_path_factory.mktemp("rabbitmq") / "cluster", database, redis=None)
        stack.callback(cluster.stop)
        cluster.variables["RETIRE_CLUSTER_BROKER_URL"] = broker.url
        cluster.data_dir.mkdir(parents=True)
        yield Site(cluster, broker)


def test_the_worker_gets_its_jobs_from_a_queue_of_the_cluster_s_own(site: Site) -> None:
    until(lambda: site.jobs_done().keys() >= JOBS, "dispatch and sweep to run")
    assert site.has_queue(QUEUE)
    assert not site.has_queue("celery")
    site.runs_a_task()


def test_a_frozen_broker_keeps_nobody_waiting_nor_beat_from_stopping(site: Site) -> None:
    site.broker.send_signal(signal.SIGSTOP)
    try:
        for _ in range(5):
            site.runs_a_task()
        assert site.beat.terminate() == 0
    finally:
        site.broker.send_signal(signal.SIGCONT)
    site.beat = site.cluster.start_beat()


def test_a_dead_broker_keeps_nobody_waiting_and_jobs_run_again_when_it_is_back(site: Site) -> None:
    until(lambda: site.jobs_done().keys() >= JOBS, "the worker's counts")
    site.broker.kill()
    for _ in range(5):
        site.runs_a_task()
    site.broker.start()
    before = until(site.jobs_done, "the worker to be back at the broker")
    until(lambda: all(site.jobs_done()[job] > before[job] for job in JOBS), "both jobs to run again")
    assert site.worker.alive()
    assert site.beat.alive()


def test_messages_that_no_worker_takes_do_not_pile_up(site: Site) -> None:
    site.worker.terminate()
    until(site.messages, "beat to send one")
    site.beat.terminate()
    until(lambda: site.messages() == 0, "it to expire in the broker")
    assert site.api.alive()
