"""One key, one task: also when twenty clients send it at the same moment, and after a restart."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID

import pytest
from django.db import connection

from clusterconfig.audit import Actor
from tasks import idempotency, services, submissions
from tasks.models import Task

pytestmark = pytest.mark.django_db(transaction=True)
CLIENTS = 20
BODY = {"task_type": "echo", "payload": {"message": "once"}}


def token(key: str = "order-7") -> idempotency.Token:
    return idempotency.token(client="key:test", key=key, endpoint="/api/v1/tasks", body=BODY)


def submit(key: str = "order-7") -> services.Submitted:
    return services.submit([submissions.parse(BODY)], actor=Actor("key:test"), token=token(key))


def test_twenty_at_once_make_one_task() -> None:
    submit("another")  # the profile exists: the race is about the key
    start = Barrier(CLIENTS)

    def client(_: int) -> tuple[UUID, bool]:
        try:
            start.wait()
            found = submit()
            return found.tasks[0].id, found.replayed
        finally:
            connection.close()

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(client, range(CLIENTS)))

    assert len({task_id for task_id, _ in answers}) == 1
    assert sorted(replayed for _, replayed in answers) == [False] + [True] * (CLIENTS - 1)
    assert Task.objects.count() == 2


def test_the_key_is_stored_with_the_task_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(idempotency, "remember", full)
        with pytest.raises(OSError, match="disk full"):
            submit()
    assert Task.objects.count() == 0
    assert submit().replayed is False
    assert submit().replayed is True
