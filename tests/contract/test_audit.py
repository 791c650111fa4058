"""The audit trail over REST: what is on record, and how it is found."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from clusterconfig import audit
from clusterconfig.audit import Actor
from clusterconfig.keys import Scope
from clusterconfig.models import AuditEntry
from tests.contract.conftest import Api
from tests.factories import START

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin(keyed: Callable[..., Api]) -> Api:
    """An administrator; nothing is on record yet."""
    client = keyed(Scope.ADMIN)
    AuditEntry.objects.all().delete()
    return client


def _record(count: int) -> list[str]:
    """Rows a second apart, two of them at the same moment; targets, newest first."""
    targets = [f"task-{number}" for number in range(count)]
    for number, target in enumerate(targets):
        moment = START + timedelta(seconds=number // 2)
        actor = Actor("user:ann" if number % 2 else "key:rck_1", "192.0.2.1", "")
        audit.record("task.cancel" if number % 2 else "device.drain", target, actor=actor, now=moment)
    return targets[::-1]


def test_who_did_what_from_where_is_on_record(admin: Api) -> None:
    made = admin.post("keys", {"name": "ci", "scopes": ["submit"]})
    [entry] = admin.data("audit?action=key.create")
    own = admin.data("keys")[1]

    assert entry["actor"] == f"key:{own['prefix']}"
    assert (entry["address"], entry["target"]) == ("127.0.0.1", made.json()["data"]["id"])
    assert entry["request_id"] == made.json()["request_id"]
    assert entry["details"]["scopes"] == ["submit"]


def test_every_change_of_keys_and_tokens_is_on_record(admin: Api) -> None:
    key = admin.post("keys", {"name": "ci", "scopes": ["submit"]}).json()["data"]["id"]
    token = admin.post("join-tokens", {"name": "phones"}).json()["data"]["id"]
    admin.send("DELETE", f"keys/{key}")
    admin.send("DELETE", f"join-tokens/{token}")

    found = [(entry["action"], entry["target"]) for entry in admin.data("audit")]

    assert found == [
        ("token.revoke", token),
        ("key.revoke", key),
        ("token.create", token),
        ("key.create", key),
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("action=task.cancel", ["task-5", "task-3", "task-1"]),
        ("actor=key:rck_1", ["task-4", "task-2", "task-0"]),
        ("target=task-3,task-4", ["task-4", "task-3"]),
        ("since=2026-01-01T12:00:02Z", ["task-5", "task-4"]),
        ("until=2026-01-01T12:00:00Z", ["task-1", "task-0"]),
        ("action=task.cancel&actor=key:rck_1", []),
    ],
)
def test_filters(admin: Api, query: str, expected: list[str]) -> None:
    _record(6)

    assert [entry["target"] for entry in admin.data(f"audit?{query}")] == expected


@pytest.mark.parametrize("name", ["since", "until"])
def test_a_wrong_moment_is_400(admin: Api, name: str) -> None:
    answer = admin.get(f"audit?{name}=yesterday")

    assert (answer.status_code, answer.json()["error_details"]["field"]) == (400, name)


def _walk(admin: Api) -> list[str]:
    found: list[str] = []
    cursor: Any = ""
    while cursor is not None:
        page = admin.get(f"audit?page_size=3&cursor={cursor}").json()
        found += [entry["target"] for entry in page["data"]]
        cursor = page["pagination"]["next_cursor"]
    return found


def test_cursor_pages_miss_and_repeat_nothing(admin: Api) -> None:
    assert _walk(admin) == []
    expected = _record(8)

    assert _walk(admin) == expected


def test_a_cursor_of_another_list_is_no_error(admin: Api) -> None:
    """Its position lies beyond every row, or before: never a server error."""
    from uuid import UUID

    from retire_cluster.api.pagination import encode_cursor

    _record(2)
    for row_id in (UUID(int=0), UUID(int=2**128 - 1)):
        answer = admin.get(f"audit?cursor={encode_cursor(START, row_id)}")
        assert answer.status_code == 200, answer.content


def test_the_trail_cannot_be_written_or_deleted(admin: Api) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert admin.send(method, "audit").status_code == 405
