"""The admin: every page opens and escapes, its actions go through the services, and no list reads a whole table."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.core.cache import cache
from django.db import OperationalError, connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from clusterconfig import keys, tokens
from clusterconfig.audit import SYSTEM
from clusterconfig.backoffice import paging, selection
from clusterconfig.backoffice.columns import LONGEST
from clusterconfig.models import (
    ApiKey,
    AuditEntry,
    ClusterIdentity,
    ConfigChange,
    ConfigSection,
    JoinToken,
    SignInLink,
    StreamTicket,
)
from devices import operations
from devices.models import Device, Gateway, MetricsSample, Ping
from retire_cluster.events.models import EventBatch
from retire_cluster.middleware import ADMIN_POLICY, BROWSABLE_POLICY, DOCS_POLICY, STRICT_POLICY
from tasks.models import Attempt, IdempotencyKey, OutputChunk, QueueSample, Tally, Task
from tests.factories import START, make_attempt, make_device, make_finished_task, make_task

pytestmark = pytest.mark.django_db

XSS = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
MODELS = sorted(admin.site._registry, key=lambda model: model._meta.label)
NAMES = [f"{model._meta.app_label}_{model._meta.model_name}" for model in MODELS]


@pytest.fixture
def staff() -> Client:
    """A member of staff, no superuser; what the cluster is made of is open to all of them."""
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.create_user("ann", password="x", is_staff=True))
    return client


@pytest.fixture
def root() -> Client:
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.create_superuser("root", password="x"))
    return client


def make_one_of_each(number: int = 0, text: str = "text") -> None:
    """A row of every model, with the text wherever a device, a client or a user may put one."""
    device = make_device(
        f"device-{number:03}",
        metrics={text: text},
        status_reason=text,
        paused_reason=text,
        cordoned=True,
        cordon_reason=text,
        tags=[text],
        task_types=[text],
        capabilities={text: text},
        agent_version=text,
    )
    task = make_finished_task(
        device,
        task_type=text[:100],
        payload=json.dumps({text: text}),
        metadata={text: text},
        requirements={text: text},
        submitted_by=text,
        progress_message=text,
        result=json.dumps(text),
        error_message=text,
        error_traceback=text,
        reason=text,
    )
    make_task(device_id=text[:64], task_type=text[:100])
    OutputChunk.objects.create(task=task, offset=0, attempt=1, number=0, stream="stdout", text=text, at=START)
    IdempotencyKey.objects.create(
        client=text, key=f"{number}{text}", digest="0" * 64, task_ids=[text], created_at=START
    )
    Tally.objects.create(shard=str(number), name=text, label=text)
    Gateway.objects.create(host=text, port=8080, tls=True, started_at=START)
    Ping.objects.create(device=device, requested_at=START, ended_at=START, failure=text)
    MetricsSample.objects.create(device=device, start=START, heartbeats=1, values={text: text})
    _make_configuration(number, text)


def _make_configuration(number: int, text: str) -> None:
    keys.create(text, [keys.Scope.READ], now=START)
    tokens.create(text, now=START, max_uses=3)
    ConfigSection.objects.create(name=f"section-{number}", values={text: text}, changed_at=START)
    ConfigChange.objects.create(
        section="server",
        version=number,
        changed_at=START,
        changed_by=text,
        old={text: text},
        new={text: text},
    )
    ClusterIdentity.objects.get_or_create(id=1, defaults={"created_at": START})
    EventBatch.objects.create(seq_from=1000 + number, count=1, events=json.dumps([text]), created_at=START)
    SignInLink.objects.create(digest=f"{number:064}", username=text[:150], expires_at=START)
    QueueSample.objects.create(at=START + timedelta(minutes=number), waiting=1, running=2)
    StreamTicket.objects.create(digest=f"{number:064}", key_id=text[:36], origin=text, expires_at=START)
    AuditEntry.objects.create(at=START, actor=text, action="task.cancel", target=text, details={text: text})
    Group.objects.create(name=f"{number}{text}")


def page(visitor: Client, name: str, *args: Any, **query: Any) -> str:
    answer = visitor.get(reverse(f"admin:{name}", args=args, query=query))
    assert answer.status_code == 200, (name, answer.status_code)
    return in_line(answer)


def in_line(answer: Any) -> str:
    """The text of a page without its line breaks."""
    return " ".join(answer.content.decode().split())


def act(client: Client, name: str, action: str, *rows: Model, **fields: Any) -> str:
    """Run an action on rows of a list; the page it ends on."""
    chosen = {"action": action, "_selected_action": [str(row.pk) for row in rows], **fields}
    answer = client.post(reverse(f"admin:{name}_changelist"), chosen, follow=True)
    assert answer.status_code == 200
    return in_line(answer)


def trail() -> list[tuple[str, str, str]]:
    entries = AuditEntry.objects.order_by("id").values_list("action", "target", "actor")
    return [entry for entry in entries if entry[2] == "user:ann"]


# --- pages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["text", XSS])
def test_every_list_and_every_page_opens_and_escapes(root: Client, text: str) -> None:
    make_one_of_each(text=text)
    for model, name in zip(MODELS, NAMES, strict=True):
        row = model._default_manager.first()
        assert row is not None, name
        pages = [
            page(root, f"{name}_changelist"),
            page(root, f"{name}_change", admin.utils.quote(row.pk)),
        ]
        for content in pages:
            assert "<script>alert" not in content, name
            assert "<img src=x" not in content, name


def test_hostile_text_is_shown_as_text(staff: Client) -> None:
    make_one_of_each(text=XSS)

    shown = page(staff, "devices_device_change", "device-000")

    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown


def test_what_an_action_says_of_a_row_is_escaped(staff: Client) -> None:
    content = act(staff, "tasks_task", "cancel", make_task(task_type=XSS, status="success"))

    assert "&lt;script&gt;alert(1)" in content
    assert "<script>alert" not in content


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("auth_")])
def test_a_search_and_the_filters_of_every_list_open(staff: Client, name: str) -> None:
    make_one_of_each()
    page(staff, f"{name}_changelist", q="text")
    page(staff, f"{name}_changelist", q="0" * 32)
    admins = {
        f"{model._meta.app_label}_{model._meta.model_name}": it for model, it in admin.site._registry.items()
    }
    for filter_class in admins[name].list_filter:
        if isinstance(filter_class, type):
            parameter = getattr(filter_class, "parameter_name", "")
            for value in ("text", "a\0b", ""):
                page(staff, f"{name}_changelist", **{parameter: value})


def test_the_index_and_the_search_of_the_sidebar_open(staff: Client) -> None:
    index = page(staff, "index")

    assert "Retire-Cluster" in index
    assert 'href="/"' in index
    assert reverse("admin:auth_user_changelist") not in index  # for those who may see users
    assert staff.get(reverse("admin:search"), {"s": "task"}).status_code == 200
    cache.clear()


def test_json_is_laid_out_and_bounded(staff: Client) -> None:
    task = make_finished_task(
        make_device(),
        payload='{"env":{"TOKEN":"secret"},"pad":"' + "x" * (2 * LONGEST) + '"}',
        result='{"half":"\\ud800","deep":' + "[" * 5000 + "]" * 5000 + "}",
    )

    content = page(staff, "tasks_task_change", task.pk)

    assert "&quot;TOKEN&quot;: &quot;secret&quot;" in content  # staff has every scope
    assert "more characters" in content
    assert "x" * LONGEST not in content
    assert "[[[[" in content  # too deep to lay out, so as it is


def test_times_have_seconds(staff: Client) -> None:
    make_task(created_at=START)

    assert "2026-01-01 12:00:00" in page(staff, "tasks_task_changelist")


def test_the_history_of_a_row_is_its_audit_trail(staff: Client) -> None:
    task = make_task()
    act(staff, "tasks_task", "cancel", task)

    answer = staff.get(reverse("admin:tasks_task_history", args=[task.pk]), follow=True)

    assert "task.cancel" in answer.content.decode()


def test_a_device_leads_to_its_tasks_and_an_attempt_to_both(staff: Client) -> None:
    task = make_finished_task(make_device("nuc"))

    attempts = page(staff, "tasks_attempt_changelist", q=str(task.pk))

    assert reverse("admin:tasks_task_change", args=[task.pk]) in attempts
    assert reverse("admin:devices_device_change", args=["nuc"]) in attempts
    assert reverse("admin:tasks_task_changelist", query={"device_id": "nuc"}) in page(
        staff, "devices_device_change", "nuc"
    )


def test_users_keep_their_forms(root: Client) -> None:
    fields = {
        "username": "bob",
        "usable_password": "true",
        "password1": "long-Enough-9",
        "password2": "long-Enough-9",
    }
    answer = root.post(reverse("admin:auth_user_add"), fields)

    assert answer.status_code == 302
    bob = User.objects.get(username="bob")
    assert bob.check_password("long-Enough-9")
    assert root.get(reverse("admin:auth_user_password_change", args=[bob.pk])).status_code == 200


# --- who gets in ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_user_who_is_not_staff_gets_nothing(name: str) -> None:
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.create_user("bob", password="x"))
    task = make_task()

    assert client.get(reverse(f"admin:{name}_changelist")).status_code == 302
    client.post(reverse("admin:tasks_task_changelist"), {"action": "cancel", "_selected_action": [task.pk]})
    assert Task.objects.get().status == "queued"


def test_staff_without_rights_on_users_sees_none(staff: Client) -> None:
    assert staff.get(reverse("admin:auth_user_changelist")).status_code == 403


def test_an_action_needs_its_token_against_foreign_pages() -> None:
    client = Client(SERVER_NAME="localhost", enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("root", password="x"))
    task = make_task()

    answer = client.post(
        reverse("admin:tasks_task_changelist"), {"action": "cancel", "_selected_action": [task.pk]}
    )

    assert answer.status_code == 403
    assert Task.objects.get().status == "queued"


def test_only_the_admin_may_evaluate_code(staff: Client) -> None:
    policy = page_policy(staff, reverse("admin:index"))

    assert policy == ADMIN_POLICY
    assert "script-src 'self' 'unsafe-eval';" in policy
    assert page_policy(staff, "/admin/login/") == ADMIN_POLICY
    for other in (STRICT_POLICY, BROWSABLE_POLICY, DOCS_POLICY):
        assert "unsafe-eval" not in other
    assert "script-src 'self';" in BROWSABLE_POLICY
    assert page_policy(staff, "/") == STRICT_POLICY
    assert page_policy(staff, "/administrator") == STRICT_POLICY


def page_policy(client: Client, path: str) -> str:
    return client.get(path)["Content-Security-Policy"]


def test_the_pages_name_nothing_of_another_host_and_hold_no_script(root: Client) -> None:
    make_one_of_each()
    for name in NAMES:
        content = page(root, f"{name}_changelist")
        assert not re.search(r"""(?:src|href|action)=["'](?:https?:)?//""", content), name
        assert not re.search(r"<script(?![^>]*\ssrc=)", content), name
        assert not re.search(r"""\son[a-z]+=["']""", content), name


# --- actions --------------------------------------------------------------------------------------------------


def test_tasks_are_cancelled_and_the_rest_is_said(staff: Client) -> None:
    waiting, done = make_task(), make_task(status="success")

    content = act(staff, "tasks_task", "cancel", waiting, done)

    assert Task.objects.get(pk=waiting.pk).status == "cancelled"
    assert "1 cancelled" in content
    assert (
        f"1 not cancelled, or asked to stop: echo {done.pk}: a task that is success cannot be cancelled"
        in content
    )
    assert trail() == [("task.cancel", str(waiting.pk), "user:ann")]


def test_tasks_are_retried(staff: Client) -> None:
    failed, waiting = make_task(status="failed"), make_task()

    content = act(staff, "tasks_task", "retry", failed, waiting)

    assert Task.objects.get(pk=failed.pk).status == "queued"
    assert "1 queued again" in content
    assert "cannot be retried" in content
    assert trail() == [("task.retry", str(failed.pk), "user:ann")]


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [
        ("cordon", {}, {"cordoned": True, "draining": False, "cordon_reason": "loud"}),
        ("drain", {}, {"cordoned": True, "draining": True, "cordon_reason": "loud"}),
        ("uncordon", {"cordoned": True}, {"cordoned": False, "draining": False, "cordon_reason": ""}),
    ],
)
def test_devices_leave_service_and_come_back(
    staff: Client, action: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    device = make_device("nuc", **before)
    gone = make_device("gone", online=False, removed_at=START)

    content = act(staff, "devices_device", action, device, gone, reason=" loud ")

    device.refresh_from_db()
    assert {name: getattr(device, name) for name in after} == after
    assert "gone: it is not there any more" in content
    assert trail() == [(f"device.{action}", "nuc", "user:ann")]


def test_a_reason_that_is_too_long_or_unstorable_does_nothing(staff: Client) -> None:
    device = make_device("nuc")
    for reason in ("x" * (operations.MAX_REASON + 1), "a\0b"):
        act(staff, "devices_device", "cordon", device, reason=reason)

    assert not Device.objects.get().cordoned


def test_devices_are_removed_once_that_is_confirmed(staff: Client) -> None:
    device = make_device("nuc")

    asked = act(staff, "devices_device", "remove", device)
    assert "Yes, I am sure" in asked
    assert Device.objects.members().count() == 1

    content = act(staff, "devices_device", "remove", device, confirmed="yes")
    assert "1 removed" in content
    assert Device.objects.members().count() == 0
    assert trail() == [("device.remove", "nuc", "user:ann")]


def test_a_key_is_rotated_and_shown_once(staff: Client) -> None:
    expires = timezone.now() + timedelta(days=3)
    old_key, old = keys.create(
        "script",
        [keys.Scope.EXECUTE, keys.Scope.READ],
        now=START,
        expires_at=expires,
        task_types=["command"],
        rate_limits="9/minute",
    )
    _, dead = keys.create("dead", [keys.Scope.READ], now=START, expires_at=START)

    assert "locked out" in act(staff, "clusterconfig_apikey", "rotate", old, dead)
    content = act(staff, "clusterconfig_apikey", "rotate", old, dead, confirmed="yes")

    new = ApiKey.objects.exclude(pk__in=[old.pk, dead.pk]).get()
    [secret] = re.findall(r"rck_\w{30,}", content)
    assert keys.verify(secret, now=timezone.now()).key_id == str(new.pk)
    assert (new.name, new.scopes, new.expires_at) == ("script", "execute,read", expires)
    assert (new.task_types, new.rate_limits) == (["command"], "9/minute")
    assert "dead (" in content
    assert "has expired" in content
    with pytest.raises(keys.KeyRefusedError):
        keys.verify(old_key, now=timezone.now())
    assert trail() == [
        ("key.create", str(new.pk), "user:ann"),
        ("key.revoke", str(old.pk), "user:ann"),
    ]
    assert secret not in page(staff, "clusterconfig_apikey_changelist")


def test_a_rotation_that_fails_leaves_the_old_key(monkeypatch: pytest.MonkeyPatch) -> None:
    key, row = keys.create("script", [keys.Scope.READ], now=START)
    monkeypatch.setattr(keys, "revoke", _fail)

    with pytest.raises(RuntimeError):
        keys.rotate(row.pk, now=timezone.now(), actor=SYSTEM)

    assert ApiKey.objects.count() == 1
    assert keys.verify(key, now=timezone.now())


def _fail(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("a defect")


@pytest.mark.parametrize(
    ("name", "word", "make"),
    [
        ("apikey", "key", lambda name: keys.create(name, [keys.Scope.READ], now=START)[1]),
        ("jointoken", "token", lambda name: tokens.create(name, now=START)[1]),
    ],
)
def test_keys_and_tokens_are_revoked(
    staff: Client, name: str, word: str, make: Callable[[str], ApiKey | JoinToken]
) -> None:
    first, second = make("first"), make("second")
    act(staff, f"clusterconfig_{name}", "revoke", first)

    content = act(staff, f"clusterconfig_{name}", "revoke", first, second)

    assert "1 revoked" in content
    assert "it was revoked before" in content
    assert trail() == [(f"{word}.revoke", str(row.pk), "user:ann") for row in (first, second)]


def test_a_defect_at_one_row_takes_no_other_with_it(
    staff: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = make_device("bad"), make_device("good")
    cordon = operations.cordon
    monkeypatch.setattr(
        operations, "cordon", lambda key, **facts: _fail() if key == "bad" else cordon(key, **facts)
    )

    content = act(staff, "devices_device", "cordon", bad, good)

    assert list(Device.objects.filter(cordoned=True).values_list("pk", flat=True)) == ["good"]
    assert "bad: the server made a mistake" in content
    assert "a defect" in caplog.text


def test_a_database_that_is_away_is_asked_once_and_not_for_every_row(
    staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = [make_device(f"device-{number}") for number in range(5)]
    asked: list[str] = []

    def away(key: str, **facts: Any) -> None:
        asked.append(key)
        raise OperationalError("gone")

    monkeypatch.setattr(operations, "cordon", away)
    staff.raise_request_exception = False
    fields = {"action": "cordon", "_selected_action": [device.pk for device in devices]}
    answer = staff.post(reverse("admin:devices_device_changelist"), fields)

    assert answer.status_code == 503
    assert len(asked) == 1


def test_no_more_than_ten_reasons_are_said(staff: Client) -> None:
    content = act(staff, "tasks_task", "cancel", *[make_task(status="success") for _ in range(13)])

    assert content.count("cannot be cancelled") == selection.MOST_REASONS
    assert "and 3 more" in content
    assert "0 cancelled" not in content


def test_a_selection_is_bounded(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "MOST_ROWS", 2)

    content = act(staff, "tasks_task", "cancel", *[make_task() for _ in range(3)])

    assert "choose at most 2 rows" in content
    assert Task.objects.filter(status="queued").count() == 3


def test_a_read_only_list_offers_no_action(staff: Client) -> None:
    make_attempt(make_task(status="running"), make_device())

    assert "delete_selected" not in page(staff, "tasks_attempt_changelist")
    act(staff, "tasks_attempt", "delete_selected", Attempt.objects.get(), post="yes")
    assert Attempt.objects.count() == 1


# --- large tables ---------------------------------------------------------------------------------------------


def test_lists_cost_a_constant_number_of_statements(root: Client) -> None:
    def counts() -> dict[str, int]:
        return {name: _statements(root, name) for name in NAMES}

    for number in range(5):
        make_one_of_each(number)
    few = counts()
    for number in range(5, 50):
        make_one_of_each(number)

    assert counts() == few
    assert max(few.values()) <= 6  # the session, the user, the count, the rows; little else


def _statements(client: Client, name: str) -> int:
    with CaptureQueriesContext(connection) as queries:
        page(client, f"{name}_changelist")
    return len(queries)


LARGE = ("tasks_task", "tasks_attempt", "tasks_outputchunk", "events_eventbatch", "clusterconfig_auditentry")


@pytest.mark.parametrize("name", LARGE)
def test_a_large_table_is_counted_no_further_than_its_bound(
    staff: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "MAX_COUNTED", 2)
    for number in range(4):
        make_one_of_each(number)

    with CaptureQueriesContext(connection) as queries:
        content = page(staff, f"{name}_changelist")

    counts = [query["sql"] for query in queries if "COUNT(" in query["sql"]]
    assert len(counts) == 1
    assert "LIMIT 3" in counts[0]
    assert "more than 2" in content


def test_a_large_list_loads_no_payload_and_no_result(staff: Client) -> None:
    make_finished_task(make_device())
    with CaptureQueriesContext(connection) as queries:
        page(staff, "tasks_task_changelist")
        page(staff, "tasks_attempt_changelist")

    statements = " ".join(query["sql"] for query in queries)
    assert '"tasks_task"."payload"' not in statements
    assert '"tasks_attempt"."result"' not in statements


def test_a_search_of_a_large_table_takes_whole_values(staff: Client) -> None:
    wanted = make_task(task_type="command")
    make_task(task_type="command_line")

    for query in (str(wanted.pk), wanted.pk.hex, "command", " command "):
        content = page(staff, "tasks_task_changelist", q=query)
        assert content.count('name="_selected_action"') == 1, query
    assert "_selected_action" not in page(staff, "tasks_task_changelist", q="comman")


@pytest.mark.parametrize("field", ["task_type", "device_id"])
def test_a_filter_takes_a_whole_value(staff: Client, field: str) -> None:
    make_task(**{field: "wanted"})
    make_task(**{field: "unwanted"})

    content = page(staff, "tasks_task_changelist", **{field: "wanted"})

    assert "1 task" in content
    assert "unwanted" not in content


@pytest.mark.parametrize("state", ["removed", "offline", "draining", "cordoned", "paused", "online"])
def test_devices_are_filtered_by_the_state_they_are_shown_in(staff: Client, state: str) -> None:
    make_device("removed", removed_at=START, online=False)
    make_device("offline", online=False)
    make_device("draining", cordoned=True, draining=True)
    make_device("cordoned", cordoned=True, paused_reason="hot")
    make_device("paused", paused_reason="hot")
    make_device("online")

    content = page(staff, "devices_device_changelist", state=state)

    assert "1 device" in content
    assert reverse("admin:devices_device_change", args=[state]) in content


@pytest.mark.parametrize("state", ["valid", "expired", "revoked"])
def test_keys_are_filtered_by_their_state(staff: Client, state: str) -> None:
    now = timezone.now()
    keys.create("valid", [keys.Scope.READ], now=now, expires_at=now + timedelta(days=1))
    keys.create("expired", [keys.Scope.READ], now=now, expires_at=now)
    _, row = keys.create("revoked", [keys.Scope.READ], now=now, expires_at=now)
    keys.revoke(row.pk, now=now, actor=SYSTEM)

    found = page(staff, "clusterconfig_apikey_changelist", state=state)

    assert "1 api key" in found
    assert reverse("admin:clusterconfig_apikey_change", args=[ApiKey.objects.get(name=state).pk]) in found
