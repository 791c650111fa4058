"""Wide tasks on a real database: a device is held for one that waits, and nobody else is held up."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from clusterconfig.audit import SYSTEM
from devices import operations
from retire_cluster import db
from retire_cluster.protocol import messages as wire
from retire_cluster.protocol.states import Outcome, Platform
from tasks.models import Attempt, Task
from tests.integration.gateway.cluster import Cluster, FakeLink, sent, status, submit

pytestmark = pytest.mark.django_db(transaction=True)

FOUR = wire.Capabilities(platform=Platform.LINUX, cpu_count=4, memory_total_mb=8192)
ONE = wire.Capabilities(platform=Platform.LINUX, cpu_count=1, memory_total_mb=8192)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def wide(count: int = 1, **need: Any) -> list[UUID]:
    """Tasks that need all of a device, and have waited long for it."""
    tasks = submit(count, min_cpu_cores=4, **need)
    now = db.now()
    for number, task_id in enumerate(tasks):
        first = int((now - timedelta(hours=1)).timestamp() * 1_000_000) + number
        Task.objects.filter(id=task_id).update(ready_at=now - timedelta(seconds=61), rank=first)
    return tasks


def orders(link: FakeLink) -> list[str]:
    """The attempts the device was offered since the last look; accepted at once."""
    return [order.attempt for order in sent(link, wire.Assign)]


def finish(cluster: Cluster, link: FakeLink, *attempts: str) -> None:
    for attempt in attempts:
        cluster.say(link, wire.Result(attempt=attempt, outcome=Outcome.SUCCESS, result_json="{}"))


def test_freed_slots_add_up_for_a_task_that_has_waited(cluster: Cluster) -> None:
    link = cluster.join("alice", slots=4, capabilities=FOUR)
    submit(4)
    cluster.step()
    running = orders(link)
    (waiting,) = wide()
    narrow = submit(10)
    for attempt in running[:3]:
        finish(cluster, link, attempt)
        assert orders(link) == []
    finish(cluster, link, running[3])
    (attempt,) = orders(link)
    assert Attempt.objects.get(id=UUID(attempt)).task_id == waiting
    finish(cluster, link, attempt)
    assert len(orders(link)) == 4
    assert [status(task_id) for task_id in narrow[:4]] == ["assigned"] * 4


def test_a_young_one_waits_its_time(cluster: Cluster) -> None:
    link = cluster.join("alice", slots=4, capabilities=FOUR)
    submit(4)
    cluster.step()
    running = orders(link)
    Task.objects.filter(id__in=wide()).update(ready_at=db.now())
    submit(4)
    finish(cluster, link, running[0])
    assert len(orders(link)) == 1


def test_many_wide_tasks_hide_no_narrow_one_from_a_device_they_cannot_use(cluster: Cluster) -> None:
    big = cluster.join("big", slots=4, capabilities=FOUR)
    submit(1)
    cluster.step()
    assert len(orders(big)) == 1
    small = cluster.join("small", slots=1, capabilities=ONE)
    wide(5)
    wide(5, min_memory_gb=1)
    (narrow,) = submit()
    cluster.step()
    assert (len(orders(small)), status(narrow)) == (1, "assigned")


@pytest.mark.parametrize(
    "leave",
    [
        lambda cluster, link: operations.cordon("soon", reason="", actor=SYSTEM),
        lambda cluster, link: cluster.say(link, wire.Heartbeat(paused_reason="hot", held=held())),
        lambda cluster, link: cluster.drop(link),
    ],
    ids=["cordoned", "paused", "gone"],
)
def test_a_device_that_takes_nothing_is_not_the_one_held(
    cluster: Cluster, leave: Callable[[Cluster, FakeLink], None]
) -> None:
    soon = cluster.join("soon", slots=4, capabilities=FOUR)
    submit(4)
    cluster.step()
    begun = db.now() - timedelta(seconds=60)
    Attempt.objects.update(accepted_at=begun, state="running")
    orders(soon)
    other = cluster.join("other", slots=4, capabilities=FOUR)
    submit(1)
    cluster.step()
    assert len(orders(other)) == 1
    wide()
    (narrow,) = submit()
    cluster.step()
    assert len(orders(other)) == 1, "the device that is full, and free sooner, is held"
    leave(cluster, soon)
    submit(5)
    cluster.step()
    assert (orders(other), status(narrow)) == ([], "assigned")


def held() -> tuple[wire.Held, ...]:
    live = Attempt.objects.filter(device_id="soon", state="running").values_list("id", flat=True)
    return tuple(wire.Held(attempt=item.hex, state="running") for item in live)  # type: ignore[arg-type]


def test_a_backlog_of_narrow_tasks_pays_nothing_for_it(cluster: Cluster) -> None:
    link = cluster.join("alice", slots=4, capabilities=FOUR)

    def statements() -> int:
        finish(cluster, link, *orders(link)[:1])
        with CaptureQueriesContext(connection) as queries:
            cluster.step()
        return len(queries)

    submit(50)
    cluster.step()
    young = statements()
    Task.objects.update(ready_at=db.now() - timedelta(hours=1))
    assert statements() == young


def test_any_number_of_profiles_without_room_in_front_hold_nobody_up(cluster: Cluster) -> None:
    """Each of a hundred wants a device that is busy; what fits the free one behind them runs."""
    big = cluster.join("big", slots=4, capabilities=FOUR)
    submit(4)
    cluster.step()
    assert len(orders(big)) == 4
    for megabytes in range(1, 101):
        submit(min_cpu_cores=2, min_memory_gb=megabytes / 1024, priority="urgent")
    small = cluster.join("small", slots=1, capabilities=ONE)
    (modest,) = submit()
    cluster.step()
    assert len(orders(small)) == 1
    assert status(modest) == "assigned"
