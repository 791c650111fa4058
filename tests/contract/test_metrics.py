"""/metrics: the specification's names, true numbers, counters that never fall, labels of ours only."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import DjangoAssertNumQueries

from retire_cluster import disk
from retire_cluster.api import traffic
from retire_cluster.protocol.states import TERMINAL, Outcome, TaskStatus
from tasks import rules, statistics, tallies
from tasks.lifecycle import Ledger
from tasks.models import Tally, Task
from tests.contract.conftest import Api
from tests.factories import make_attempt, make_device, make_task

pytestmark = pytest.mark.django_db
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
ECHO = {"task_type": "echo", "payload": {}}


@pytest.fixture(autouse=True)
def _fresh_figures() -> None:
    statistics.forget_cached()
    traffic.counts.take()


def exposition(client: Client) -> str:
    answer = client.get("/metrics", headers={"Host": "localhost"})
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/plain")
    return answer.content.decode()


def samples(text: str) -> dict[tuple[str, str], float]:
    """Value by (name, labels as text)."""
    return {
        (
            sample.name,
            ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items())),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def finish(outcome: Outcome = Outcome.SUCCESS) -> Task:
    """A task that runs on a device and ends, by the life cycle's own hands."""
    task = make_task(status=TaskStatus.RUNNING, attempt_no=1)
    attempt = make_attempt(task, make_device(f"pi-{task.pk.hex[-6:]}"))
    ledger = Ledger(task.created_at)
    ledger.load_attempts([attempt.pk])
    pair = ledger.pair(attempt.pk)
    assert pair is not None
    report = rules.Report(outcome=outcome, ran_s=0.2)
    ledger.put(rules.finish(*pair, report, now=ledger.now, jitter=1))
    ledger.flush()
    task.refresh_from_db()
    return task


def test_the_specification_s_metrics_are_named_exactly_so(client: Client) -> None:
    make_device("pi")
    make_device("nas", online=False)
    finish()

    text = exposition(client)

    assert "# HELP retire_cluster_devices_total Total number of registered devices\n" in text
    assert "# TYPE retire_cluster_devices_total gauge\n" in text
    assert 'retire_cluster_devices_total{status="offline"} 1.0\n' in text
    assert "# HELP retire_cluster_tasks_total Total number of tasks\n" in text
    assert "# TYPE retire_cluster_tasks_total counter\n" in text
    assert 'retire_cluster_tasks_total{status="success"} 1.0\n' in text


def test_every_end_is_there_from_the_start(client: Client) -> None:
    found = samples(exposition(client))
    assert {label for name, label in found if name == "retire_cluster_tasks_total"} == {
        f"status={status}" for status in TERMINAL
    }


def test_counters_do_not_fall_when_a_task_runs_again_or_is_deleted(client: Client) -> None:
    task = finish(Outcome.FAILED)
    failed = ("retire_cluster_tasks_total", "status=failed")
    assert samples(exposition(client))[failed] == 1

    task.attempts.all().delete()
    task.delete()
    assert samples(exposition(client))[failed] == 1
    finish(Outcome.FAILED)
    assert samples(exposition(client))[failed] == 2


def test_histograms_are_cumulative_and_count_what_ended(client: Client) -> None:
    finish()
    finish()
    found = samples(exposition(client))
    name = "retire_cluster_task_execution_seconds"
    buckets = [value for (key, _), value in found.items() if key == f"{name}_bucket"]
    assert len(buckets) == len(tallies.BUCKETS) + 1
    assert found[(f"{name}_count", "")] == max(buckets) == 2
    assert found[(f"{name}_sum", "")] == pytest.approx(0.0, abs=0.5)


def test_submissions_and_requests_are_counted_by_words_of_ours(client: Client, api: Api) -> None:
    api.post("tasks", ECHO)
    api.get("tasks/550e8400-e29b-41d4-a716-446655440000")
    api.get("nothing/of/the/kind")
    found = samples(exposition(client))

    assert found[("retire_cluster_tasks_submitted_total", "")] == 1
    requests = {
        label: value for (name, label), value in found.items() if name.endswith("http_requests_total")
    }
    assert requests["method=POST,route=task-list,status=2xx"] == 1
    assert requests["method=GET,route=task-detail,status=4xx"] == 1
    assert not any("550e8400" in label or "kind" in label for label in requests)
    assert Tally.objects.filter(name="http_requests").exists()


def test_a_batch_counts_in_one_statement(
    api: Api, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    api.post("tasks", ECHO)
    with django_assert_max_num_queries(6):
        assert api.post("tasks/batch", {"tasks": [ECHO] * 100}).status_code == 201
    assert tallies.totals()[tallies.SUBMITTED][""] == 101


def test_scraping_costs_the_same_whatever_there_is(
    client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    exposition(client)
    for number in range(5):
        make_device(f"device-{number}")
        make_task()
    traffic.counts.take()
    with django_assert_num_queries(7):
        exposition(client)


def test_slots_are_those_of_online_devices(client: Client) -> None:
    make_attempt(make_task(status=TaskStatus.RUNNING, attempt_no=1), make_device("pi", slots=4), slots=3)
    make_device("nas", slots=8, online=False)
    found = samples(exposition(client))
    assert found[("retire_cluster_slots", "state=busy")] == 3
    assert found[("retire_cluster_slots", "state=free")] == 1


def test_an_attempt_on_a_lost_device_is_counted_by_how_it_ended(client: Client) -> None:
    name = "retire_cluster_attempts_given_up_total"
    found = samples(exposition(client))
    assert {label for key, label in found if key == name} == {"outcome=lost", "outcome=returned"}
    finish()
    assert samples(exposition(client))[(name, "outcome=lost")] == 0

    attempt = make_attempt(make_task(status=TaskStatus.RUNNING, attempt_no=1), make_device("phone"))
    ledger = Ledger(attempt.offered_at)  # within its time limit
    ledger.load_attempts([attempt.pk])
    pair = ledger.pair(attempt.pk)
    assert pair is not None
    step = rules.lose(*pair, reason="its lease ended", now=ledger.now, max_losses=3)
    assert step is not None
    ledger.put(step)
    ledger.flush()
    assert samples(exposition(client))[(name, "outcome=lost")] == 1


def test_health_is_there_in_numbers(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "free_mb", lambda _: 50.0)
    found = samples(exposition(client))
    assert found[("retire_cluster_component_health", "component=api")] == 0.5
    assert found[("retire_cluster_component_health", "component=cluster_server")] == 1
    assert found[("retire_cluster_service_health", "service=disk")] == 0.5
    assert found[("retire_cluster_service_health", "service=database")] == 1
    assert found[("retire_cluster_disk_free_bytes", "")] == 50 * 2**20
    assert ("retire_cluster_service_response_seconds", "service=database") in found


def test_without_the_database_a_scrape_fails(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(tallies, "totals", away)
    assert client.get("/metrics", headers={"Host": "localhost"}).status_code == 503


Described = dict[str, tuple[str, frozenset[str]]]  # kind and labels by name


def described() -> Described:
    """The table of the reference."""
    rows = re.findall(
        r"^\| `(retire_cluster_\w+)` \| (\w+) \|(.*?)\|", REFERENCE.read_text(), flags=re.MULTILINE
    )
    return {name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def exposed(text: str) -> Described:
    """The same, of what the server says."""
    found: Described = {}
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = frozenset(label for sample in family.samples for label in sample.labels if label != "le")
        found[name] = (family.type, labels)
    return found


def test_the_reference_tells_every_metric_with_its_kind_and_labels(client: Client, api: Api) -> None:
    api.get("tasks")
    assert exposed(exposition(client)) == described()


def test_with_everything_closed_it_is_closed_too(client: Client, settings: Any) -> None:
    settings.AUTH = "all"
    assert client.get("/metrics", headers={"Host": "localhost"}).status_code == 401
