"""`/metrics` for Prometheus. Numbers come from the database, so every process of the cluster tells the same."""

import logging
from collections.abc import Iterable, Iterator

from django.db import DatabaseError
from django.http import HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from rest_framework.request import Request
from rest_framework.views import APIView

from devices.models import Device
from retire_cluster.api import traffic
from retire_cluster.db import write_transaction
from retire_cluster.ops import health
from retire_cluster.ops.services import DEGRADED, HEALTHY, UNHEALTHY
from retire_cluster.protocol.states import TERMINAL, TaskStatus
from tasks import statistics, tallies

logger = logging.getLogger("retire_cluster.metrics")

# As numbers, so that a graph of an hour shows the worst of it.
HEALTH = {HEALTHY: 1.0, DEGRADED: 0.5, UNHEALTHY: 0.0}
REQUESTS, REQUEST_SECONDS = "http_requests", "http_request_seconds"
HISTOGRAMS = (
    (tallies.QUEUE_WAIT, "retire_cluster_queue_wait_seconds", "From ready to started, of tasks that ended"),
    (tallies.EXECUTION, "retire_cluster_task_execution_seconds", "Measured on the device"),
    (
        tallies.DISPATCH,
        "retire_cluster_dispatch_latency_seconds",
        "From submitted to accepted by a device, of tasks that ended with their first attempt",
    ),
)


class MetricsView(APIView):
    """Prometheus' text form; open as reading is."""

    def get(self, request: Request) -> HttpResponse:
        keep_requests()
        return HttpResponse(exposition(), content_type=CONTENT_TYPE_LATEST)


def exposition() -> bytes:
    """Every metric as text."""
    registry = CollectorRegistry()
    registry.register(_Cluster())
    text: bytes = generate_latest(registry)
    return text


def keep_requests() -> None:
    """Add this process's requests to the database's counts; on trouble they are lost, and said."""
    counts, seconds = traffic.counts.take()
    rows = {(REQUESTS, _label(kind)): float(value) for kind, value in counts.items()}
    rows.update({(REQUEST_SECONDS, _label(kind)): value for kind, value in seconds.items()})
    if not rows:
        return
    try:
        with write_transaction():
            tallies.add(rows)
    except DatabaseError as error:
        logger.warning("the counts of a minute's requests are lost: %s", error, extra={"action": "metrics"})


class _Cluster(Collector):
    """Reads everything when asked."""

    def collect(self) -> Iterator[Metric]:
        counted = tallies.totals()
        yield _devices()
        yield _slots()
        yield from _tasks(counted)
        for name, metric, text in HISTOGRAMS:
            yield _histogram(metric, text, counted.get(name, {}))
        yield from _requests(counted)
        yield from _health()


def _devices() -> Metric:
    online, total = Device.objects.members().filter(online=True).count(), Device.objects.members().count()
    found = GaugeMetricFamily(
        "retire_cluster_devices_total", "Total number of registered devices", labels=["status"]
    )
    found.add_metric(["online"], online)
    found.add_metric(["offline"], total - online)
    return found


def _slots() -> Metric:
    slots, taken = statistics.slots()
    busy = sum(taken.values())
    found = GaugeMetricFamily("retire_cluster_slots", "Slots of online devices", labels=["state"])
    found.add_metric(["busy"], busy)
    # A device whose slots were made fewer keeps what runs on it.
    found.add_metric(["free"], sum(max(0, total - taken[device]) for device, total in slots.items()))
    return found


def _tasks(counted: dict[str, dict[str, float]]) -> Iterator[Metric]:
    ended = CounterMetricFamily("retire_cluster_tasks", "Total number of tasks", labels=["status"])
    for status in sorted(TERMINAL):
        ended.add_metric([status], counted.get(tallies.ENDED, {}).get(status, 0))
    yield ended
    submitted = CounterMetricFamily("retire_cluster_tasks_submitted", "Tasks submitted")
    submitted.add_metric([], counted.get(tallies.SUBMITTED, {}).get("", 0))
    yield submitted
    given_up = CounterMetricFamily(
        "retire_cluster_attempts_given_up", "Attempts without an end on their device", labels=["outcome"]
    )
    for outcome in tallies.WITHOUT_AN_END:
        given_up.add_metric([outcome.value], counted.get(tallies.GIVEN_UP, {}).get(outcome.value, 0))
    yield given_up
    now = GaugeMetricFamily("retire_cluster_tasks_current", "Tasks that have not ended", labels=["status"])
    by_status = statistics.queue_stats()["by_status"]
    for item in TaskStatus:
        if not item.is_terminal:
            now.add_metric([item.value], by_status[item.value])
    yield now
    connected = GaugeMetricFamily("retire_cluster_agents_connected", "Agents connected to a gateway")
    connected.add_metric([], Device.objects.filter(online=True).count())
    yield connected


def _histogram(name: str, text: str, values: dict[str, float]) -> Metric:
    found = HistogramMetricFamily(name, text)
    buckets, total = [], 0.0
    for bound in [*map(str, tallies.BUCKETS), tallies.INFINITE]:
        total += values.get(bound, 0)
        buckets.append((bound, total))
    found.add_metric([], buckets, values.get(tallies.SUM, 0.0))
    return found


def _requests(counted: dict[str, dict[str, float]]) -> Iterable[Metric]:
    names = ["method", "route", "status"]
    requests = CounterMetricFamily("retire_cluster_http_requests", "Requests answered", labels=names)
    seconds = CounterMetricFamily(
        "retire_cluster_http_request_seconds", "Time spent answering requests", labels=names
    )
    for label, value in counted.get(REQUESTS, {}).items():
        requests.add_metric(label.split(" "), value)
    for label, value in counted.get(REQUEST_SECONDS, {}).items():
        seconds.add_metric(label.split(" "), value)
    return (requests, seconds)


def _health() -> Iterator[Metric]:
    """What `/health` says, in numbers."""
    found = health.check()
    components = GaugeMetricFamily(
        "retire_cluster_component_health", "1 healthy, 0.5 degraded, 0 unhealthy", labels=["component"]
    )
    for name, state in found.components.items():
        components.add_metric([name], HEALTH[state])
    yield components
    services = GaugeMetricFamily(
        "retire_cluster_service_health", "1 healthy, 0.5 degraded, 0 unhealthy", labels=["service"]
    )
    response = GaugeMetricFamily(
        "retire_cluster_service_response_seconds", "Time a service took to answer", labels=["service"]
    )
    for name, facts in found.services.items():
        services.add_metric([name], HEALTH[facts["status"]])
        if "response_time_ms" in facts:
            response.add_metric([name], facts["response_time_ms"] / 1000)
    yield from (services, response)
    if "disk" in found.services:
        free = GaugeMetricFamily("retire_cluster_disk_free_bytes", "Free room for the SQLite database")
        free.add_metric([], found.services["disk"]["free_mb"] * 2**20)
        yield free


def _label(kind: traffic.Kind) -> str:
    return f"{kind.method} {kind.route} {kind.status}"
