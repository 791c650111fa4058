"""What a task costs, counted: SQL statements, frames, bytes. Timings are in benchmarks/."""

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from clusterconfig import services as config
from retire_cluster import db
from retire_cluster.gateway.inputs import Received
from retire_cluster.protocol import codec
from retire_cluster.protocol import messages as wire
from retire_cluster.protocol.states import Outcome
from tasks import profiles
from tasks.models import Task
from tests.integration.gateway.cluster import Cluster, FakeLink, sent, submit

pytestmark = pytest.mark.django_db

SLOTS = 16
# Two tables of results, their count; the heads of the queue, devices, their load, candidates; two tables of claims;
# one event for all of it. For all tasks of a step, however many there are.
STEP = 10
# The tasks, their count, one event: on PostgreSQL one statement for all three.
SUBMIT = 3 if connection.vendor == "sqlite" else 1


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """However slow this machine is, what it knows for a while it knows from one step to the next."""
    monkeypatch.setattr(config, "CACHE_S", 3600.0)
    monkeypatch.setattr(profiles, "REMEMBERED_S", 3600.0)
    monkeypatch.setattr(db, "CARRIED", timedelta(hours=1))
    return Cluster()


def answers(link: FakeLink) -> tuple[wire.Message, ...]:
    """What an agent says of everything it was just given: accepted, and done."""
    given = sent(link, wire.Assign)
    results = [
        wire.Result(attempt=item.attempt, outcome=Outcome.SUCCESS, result_json=item.payload_json, ran_s=0.001)
        for item in given
    ]
    return (wire.Accepted(attempts=tuple(item.attempt for item in given)), *results) if given else ()


def statements(queries: CaptureQueriesContext) -> list[str]:
    """Without the borders of transactions."""
    borders = ("BEGIN", "SAVEPOINT", "RELEASE", "COMMIT")
    found = [str(query["sql"]) for query in queries]  # None for one that is prepared and has no values
    return [sql for sql in found if not sql.lstrip().startswith(borders)]


def step(cluster: Cluster, link: FakeLink) -> list[str]:
    """One round for the device; the statements it took."""
    frame = Received(link, answers(link))
    with CaptureQueriesContext(connection) as queries:
        cluster.committer._persist([frame], tick=False, place=True, intents=False)
    return statements(queries)


@pytest.mark.parametrize("at_once", [1, SLOTS])
def test_a_step_costs_the_same_statements_for_any_number_of_tasks(cluster: Cluster, at_once: int) -> None:
    link = cluster.join("d", slots=at_once)
    submit(3 * at_once)
    cluster.step()
    step(cluster, link)  # the first one is also told that the device has its secret

    taken = step(cluster, link)

    assert Task.objects.filter(status="success").count() == 2 * at_once
    assert Task.objects.filter(status="assigned").count() == at_once
    assert len(taken) == STEP, taken


def test_a_thousand_tasks_cost_a_few_hundred_statements(cluster: Cluster) -> None:
    links = [cluster.join(name, slots=SLOTS) for name in ("a", "b")]
    submit(1000)
    cluster.step()
    taken = 0
    while Task.objects.filter(status="success").count() < 1000:
        taken += sum(len(step(cluster, link)) for link in links)

    assert taken <= STEP * (1000 / SLOTS + 2)


def test_the_clock_is_read_anew_with_each_second_and_only_then(cluster: Cluster) -> None:
    link = cluster.join("d")
    submit(3)
    cluster.step()
    with CaptureQueriesContext(connection) as queries:
        cluster.tick()
    # On SQLite this process's own clock counts.
    asked = 0 if connection.vendor == "sqlite" else 1
    assert sum("clock_timestamp" in sql for sql in statements(queries)) == asked
    assert not any("clock_timestamp" in sql for sql in step(cluster, link))


@pytest.mark.parametrize("count", [1, 1000])
def test_a_submission_costs_the_same_statements_for_any_number_of_tasks(cluster: Cluster, count: int) -> None:
    submit()  # the profile is there
    submit()  # and known
    with CaptureQueriesContext(connection) as queries:
        submit(count)

    assert len(statements(queries)) == SUBMIT


def test_a_round_of_tasks_is_one_frame_each_way(cluster: Cluster) -> None:
    link = cluster.join("d", slots=SLOTS)
    submit(2 * SLOTS)
    cluster.step()
    first = list(link.sent)
    reply = answers(link)
    link.sent.clear()
    cluster.say(link, *reply)  # acknowledgements and the next tasks

    assert len(list(codec.encode(reply))) == 1
    assert len(list(codec.encode(link.sent))) == 1
    assert len(sent(link, wire.ResultAck)) == len(sent(link, wire.Assign)) == SLOTS
    assert size(reply) <= 220
    assert size([message for message in first if isinstance(message, wire.Assign)]) <= 300


def size(messages: tuple[wire.Message, ...] | list[wire.Message]) -> float:
    """Bytes a task of a frame, payload and result not counted."""
    content = sum(
        len(json.dumps(getattr(message, name)))
        for message in messages
        for name in ("payload_json", "result_json")
        if hasattr(message, name)
    )
    return (sum(map(len, codec.encode(messages))) - content) / SLOTS
