"""Keys and tokens where an operator works: the admin pages and the commands. The same rules, on record."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from clusterconfig import keys, tokens
from clusterconfig.audit import SYSTEM
from clusterconfig.keys import Scope
from clusterconfig.models import ApiKey, AuditEntry, JoinToken

pytestmark = pytest.mark.django_db

Say = Callable[..., tuple[str, str]]


@pytest.fixture
def staff() -> Client:
    """A member of staff who is no superuser: that alone is the right to manage keys."""
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.create_user("ann", is_staff=True))
    return client


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a command; what it said on each stream."""

    def run(*words: str) -> tuple[str, str]:
        call_command(*words)
        said = capsys.readouterr()
        return said.out.strip(), said.err.strip()

    return run


# --- admin pages ----------------------------------------------------------------------------------------------


def _shown(answer: Any, pattern: str) -> str:
    found = re.search(pattern, answer.content.decode())
    assert found, answer.content.decode()
    return found[0]


def test_a_key_made_in_the_admin_is_shown_once_and_works(staff: Client) -> None:
    page = "/admin/clusterconfig/apikey/"
    fields = {
        "name": "ci",
        "scopes": ["read", "execute"],
        "task_types": "resize, crop",
        "rate_limits": "5/minute",
        "expires_in_days": "7",
    }
    answer = staff.post(f"{page}add/", fields, follow=True)
    key = _shown(answer, r"rck_[0-9a-f]{64}")
    row = ApiKey.objects.get()

    holder = keys.verify(key, now=timezone.now())
    assert holder.scopes == {Scope.READ, Scope.EXECUTE, Scope.SUBMIT}
    assert holder.task_types == {"resize", "crop"}
    assert (row.rate_limits, row.created_by) == ("5/minute", "user:ann")
    assert row.expires_at is not None
    assert key not in staff.get(page).content.decode()
    assert AuditEntry.objects.filter(action="key.create", actor="user:ann").count() == 1


def test_the_admin_shows_what_is_wrong_with_a_new_key(staff: Client) -> None:
    answer = staff.post(
        "/admin/clusterconfig/apikey/add/", {"name": "ci", "scopes": ["read"], "rate_limits": "many"}
    )

    assert "rate_limits: must be like 60/minute" in answer.content.decode()
    assert ApiKey.objects.count() == 0


def test_a_token_made_in_the_admin_is_shown_with_its_command(staff: Client) -> None:
    fields = {"name": "phones", "tags": "attic", "role": "mobile", "max_uses": "2"}
    answer = staff.post("/admin/clusterconfig/jointoken/add/", fields, follow=True)
    command = _shown(answer, r"RETIRE_CLUSTER_JOIN_TOKEN=rcj1_\w+ python3 ")
    row = tokens.redeem(command.split()[0].partition("=")[2], now=timezone.now())

    assert row is not None
    assert (row.tags, row.role, row.max_uses) == (["attic"], "mobile", 2)


@pytest.mark.parametrize("kind", ["apikey", "jointoken"])
def test_rows_are_revoked_in_the_admin_and_on_record(staff: Client, kind: str) -> None:
    now = timezone.now()
    model: Any = ApiKey if kind == "apikey" else JoinToken
    _, row = keys.create("a", [Scope.READ], now=now) if kind == "apikey" else tokens.create("a", now=now)

    answer = staff.post(
        f"/admin/clusterconfig/{kind}/", {"action": "revoke", "_selected_action": [str(row.pk)]}, follow=True
    )

    assert "1 revoked" in answer.content.decode()
    assert model.objects.get().revoked_at is not None
    assert AuditEntry.objects.filter(action__endswith=".revoke", actor="user:ann").count() == 1


@pytest.mark.parametrize("kind", ["apikey", "jointoken"])
def test_rows_are_neither_changed_nor_deleted_in_the_admin(staff: Client, kind: str) -> None:
    now = timezone.now()
    _, row = keys.create("a", [Scope.READ], now=now) if kind == "apikey" else tokens.create("a", now=now)
    page = f"/admin/clusterconfig/{kind}/{row.pk}"
    shown = staff.get(f"{page}/change/").content.decode()

    assert row.digest not in shown
    assert staff.post(f"{page}/change/", {"name": "b"}).status_code == 403
    assert staff.post(f"{page}/delete/", {"post": "yes"}).status_code == 403


# --- commands -------------------------------------------------------------------------------------------------


def test_a_key_made_by_command_is_alone_on_the_output(say: Say) -> None:
    key, note = say("apikey", "create", "ci", "--scopes", "read,submit", "--expires-in", "30d")

    assert keys.verify(key, now=timezone.now()).scopes == {Scope.READ, Scope.SUBMIT}
    assert "shown only now" in note
    assert ApiKey.objects.get().expires_at is not None
    assert AuditEntry.objects.get().actor == "cli"


def test_keys_are_listed_without_their_text_and_revoked_by_prefix(say: Say) -> None:
    key, _ = say("apikey", "create", "ci", "--scopes", "execute", "--task-types", "resize")
    listed, _ = say("apikey", "list")
    done, _ = say("apikey", "revoke", key[:16])

    assert key not in listed
    assert all(word in listed for word in (key[:16], "execute", "yes"))
    assert "revoked" in done
    with pytest.raises(keys.KeyRefusedError, match="revoked"):
        keys.verify(key, now=timezone.now())


def test_a_token_made_by_command_is_alone_on_the_output(say: Say) -> None:
    text, note = say("jointoken", "create", "phones", "--max-uses", "3", "--role", "mobile", "--tags", "a,b")
    row = tokens.redeem(text, now=timezone.now())
    listed, _ = say("jointoken", "list")

    assert row is not None
    assert (row.max_uses, row.role, row.tags) == (3, "mobile", ["a", "b"])
    assert f"\n RETIRE_CLUSTER_JOIN_TOKEN={text} python3 -Ic " in note
    assert text not in listed
    assert row.pk in listed
    say("jointoken", "revoke", row.pk)
    assert JoinToken.objects.get().revoked_at is not None


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["apikey", "create", "ci", "--scopes", "root"], "scopes: must be among"),
        (["apikey", "create", "ci", "--scopes", "read", "--expires-in", "soon"], "--expires-in"),
        (["apikey", "create", "ci", "--scopes", "read", "--rate-limits", "x"], "rate_limits"),
        (["apikey", "revoke", "nobody"], "`apikey list`"),
        (["apikey", "revoke", "00000000-0000-0000-0000-000000000000"], "`apikey list`"),
        (["jointoken", "create", "x", "--role", "king"], "role: must be one of"),
        (["jointoken", "revoke", "nobody"], "`jointoken list`"),
        (["apikey"], "required"),
    ],
)
def test_a_wrong_command_is_one_line_that_says_why(words: list[str], reason: str) -> None:
    with pytest.raises(CommandError, match=re.escape(reason)) as caught:
        call_command(*words)

    assert "\n" not in str(caught.value)


def test_what_the_cluster_makes_itself_is_on_record_too() -> None:
    keys.create("a", [Scope.READ], now=timezone.now())

    assert AuditEntry.objects.get().actor == SYSTEM.principal
