"""API keys and join tokens over REST: made once, shown once, narrowed, revoked, on record."""

import json
import shlex
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.utils import timezone

from clusterconfig import joining, tokens
from clusterconfig.keys import Scope
from clusterconfig.models import ApiKey, AuditEntry, JoinToken
from retire_cluster import zipapp
from retire_cluster.credentials import digest
from tests.contract.conftest import Api
from tests.factories import make_task

pytestmark = pytest.mark.django_db

Keyed = Callable[..., Api]


@pytest.fixture
def admin(keyed: Keyed) -> Api:
    return keyed(Scope.ADMIN)


def _make(admin: Api, **body: Any) -> Any:
    answer = admin.post("keys", {"name": "ci", "scopes": ["submit"], **body})
    assert answer.status_code == 201, answer.content
    return answer.json()["data"]


def _errors(answer: Any) -> dict[str, str]:
    assert answer.status_code == 400, answer.content
    details = answer.json()["error_details"]
    return {error["field"]: error["reason"] for error in details.get("errors", [details])}


def test_a_new_key_is_shown_once_and_works(admin: Api) -> None:
    answer = admin.post("keys", {"name": "ci", "scopes": ["read", "submit"]})
    made = answer.json()["data"]
    row = admin.data(f"keys/{made['id']}")

    assert answer.status_code == 201
    assert answer["Location"] == f"/api/v1/keys/{made['id']}"
    assert made.pop("key").startswith(made["prefix"])
    assert row == made
    assert (row["scopes"], row["is_active"], row["last_used_at"]) == (["read", "submit"], True, None)


def test_no_list_holds_a_secret(admin: Api) -> None:
    key = _make(admin)["key"]
    token = admin.post("join-tokens", {"name": "phones"}).json()["data"]["token"]

    for path in ("keys", "join-tokens", "audit"):
        text = admin.get(path).content.decode()
        assert key not in text
        assert token not in text
        assert token.split("_")[2] not in text
        assert "digest" not in text


def test_keys_are_listed_newest_first_in_pages(admin: Api) -> None:
    made = [_make(admin, name=f"key {number}")["id"] for number in range(3)]

    page = admin.get("keys?page_size=2").json()

    assert [row["id"] for row in page["data"]] == [made[2], made[1]]
    assert page["pagination"]["total_items"] == 4


def test_a_key_expires(admin: Api) -> None:
    before = timezone.now()
    made = _make(admin, expires_in_seconds=60)
    asked_at = datetime.fromisoformat(made["expires_at"]) - timedelta(seconds=60)

    assert before <= asked_at <= timezone.now()
    ApiKey.objects.filter(pk=made["id"]).update(expires_at=timezone.now())
    assert admin.data(f"keys/{made['id']}")["is_active"] is False
    assert Api(**{"X-API-Key": made["key"]}).get("tasks").status_code == 401


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": "submit"}, "scopes"),
        ({"scopes": ["root"]}, "scopes"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2099-01-01T00:00:00Z", "expires_in_seconds": 5}, "expires_in_seconds"),
        ({"expires_in_seconds": 0}, "expires_in_seconds"),
        ({"rate_limits": "many"}, "rate_limits"),
        ({"rate_limits": "0/minute"}, "rate_limits"),
        ({"task_types": ["command"]}, "task_types"),
        ({"task_types": ["command"], "scopes": ["admin", "execute"]}, "task_types"),
        ({"task_types": [""], "scopes": ["execute"]}, "task_types"),
        ({"scope": "read"}, "scope"),
    ],
)
def test_a_wrong_request_for_a_key_names_the_field(admin: Api, body: dict[str, Any], field: str) -> None:
    assert field in _errors(admin.post("keys", {"name": "ci", "scopes": ["submit"], **body}))
    assert ApiKey.objects.count() == 1


def test_a_revoked_key_opens_nothing_and_stays_on_the_list(admin: Api) -> None:
    made = _make(admin)

    first = admin.send("DELETE", f"keys/{made['id']}")
    again = admin.send("DELETE", f"keys/{made['id']}")

    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json()["data"]["revoked_at"] == again.json()["data"]["revoked_at"] is not None
    assert Api(**{"X-API-Key": made["key"]}).get("tasks").status_code == 401
    assert AuditEntry.objects.filter(action="key.revoke").count() == 1


def test_one_s_own_key_is_revoked_only_on_purpose(admin: Api) -> None:
    own = admin.data("keys")[0]["id"]

    refused = admin.send("DELETE", f"keys/{own}")
    wrong = admin.send("DELETE", f"keys/{own}?own=perhaps")
    done = admin.send("DELETE", f"keys/{own}?own=true")

    assert (refused.status_code, refused.json()["error_code"]) == (409, "CONFLICT")
    assert "?own=true" in refused.json()["message"]
    assert (wrong.status_code, done.status_code) == (400, 200)
    assert admin.get("keys").status_code == 401


@pytest.mark.parametrize(
    "path", ["keys/x", f"keys/{uuid.UUID(int=1)}", "join-tokens/x", f"join-tokens/{'0' * 16}"]
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_what_does_not_exist_is_404(admin: Api, method: str, path: str) -> None:
    answer = admin.send(method, path)

    assert (answer.status_code, answer.json()["error_code"]) == (404, "NOT_FOUND")


# --- what a key may do ----------------------------------------------------------------------------------------


def _submit(client: Api, task_type: str, payload: str = "{}") -> Any:
    return client.post("tasks", f'{{"task_type": "{task_type}", "payload": {payload}}}')


@pytest.fixture
def offered() -> None:
    """A device that offers types which run code."""
    from tests.factories import make_device

    make_device(task_types=["echo", "sleep", "system_info", "command", "resize"])


@pytest.mark.usefixtures("offered")
def test_submit_runs_exactly_the_harmless_types(keyed: Keyed) -> None:
    client = keyed(Scope.SUBMIT)

    assert [_submit(client, name).status_code for name in ("echo", "sleep", "system_info")] == [201] * 3
    refused = _submit(client, "resize")
    assert (refused.status_code, refused.json()["error_code"]) == (403, "FORBIDDEN")
    assert "'execute'" in refused.json()["message"]


@pytest.mark.usefixtures("offered")
def test_a_key_may_be_narrowed_to_some_types(admin: Api) -> None:
    key = _make(admin, scopes=["execute"], task_types=["resize"])["key"]
    client = Api(**{"X-API-Key": key})

    assert _submit(client, "resize").status_code == 201
    assert _submit(client, "echo").status_code == 201
    refused = _submit(client, "command", '{"command": "true"}')
    assert (refused.status_code, "resize" in refused.json()["message"]) == (403, True)


@pytest.mark.parametrize("scope", [Scope.READ, Scope.OPERATE])
def test_the_missing_scope_is_named(keyed: Keyed, scope: Scope) -> None:
    refused = _submit(keyed(scope), "echo")

    assert refused.status_code == 403
    assert "'submit'" in refused.json()["message"]


def test_under_auth_all_reading_needs_its_scope(keyed: Keyed, settings: Any) -> None:
    settings.AUTH = "all"

    assert keyed(Scope.READ).get("tasks").status_code == 200
    refused = keyed(Scope.SUBMIT).get("tasks")
    assert (refused.status_code, "'read'" in refused.json()["message"]) == (403, True)


SECRETS = '{"command":["true"],"env":{"T":"s3cret"},"headers":{"A":"s3cret"},"data":"s3cret"}'


def _payload(client: Api, task_id: uuid.UUID) -> Any:
    return client.data(f"tasks/{task_id}")["payload"]


def test_secret_parts_of_a_payload_are_hidden_from_strangers(api: Api, keyed: Keyed) -> None:
    task = make_task(task_type="command", payload=SECRETS)

    for client in (api, keyed(Scope.READ), keyed(Scope.SUBMIT), keyed(Scope.OPERATE)):
        shown = _payload(client, task.pk)
        assert shown["command"] == ["true"]
        assert {shown[name] for name in ("env", "headers", "data")} == {"[hidden]"}


def test_they_are_shown_to_those_who_could_run_it_and_to_the_submitter(admin: Api, keyed: Keyed) -> None:
    key = _make(admin, scopes=["read"])
    task = make_task(task_type="command", payload=SECRETS, submitted_by=f"key:{key['prefix']}")

    for client in (admin, keyed(Scope.EXECUTE), Api(**{"X-API-Key": key["key"]})):
        assert _payload(client, task.pk) == json.loads(SECRETS)


def test_a_key_for_other_types_sees_no_secrets(admin: Api) -> None:
    key = _make(admin, scopes=["execute"], task_types=["resize"])["key"]
    task = make_task(task_type="command", payload=SECRETS)

    assert _payload(Api(**{"X-API-Key": key}), task.pk)["env"] == "[hidden]"


def test_types_that_run_no_code_hide_nothing(api: Api) -> None:
    task = make_task(task_type="echo", payload='{"data":"hello"}')

    assert _payload(api, task.pk) == {"data": "hello"}


# --- join tokens ----------------------------------------------------------------------------------------------


def test_a_new_join_token_comes_with_the_command_to_run(admin: Api, settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR, settings.CLUSTER_HOST, settings.CLUSTER_PORT = tmp_path, "192.0.2.7", 8080
    link = "a" * 64
    tokens.local_token(tmp_path, link=link, now=timezone.now())

    answer = admin.post(
        "join-tokens",
        {"name": "phones", "max_uses": 2, "role": "mobile", "tags": ["attic"], "max_slots": 1},
    )
    made = answer.json()["data"]

    assert answer.status_code == 201
    assert made["token"].endswith("_" + link)
    line = shlex.split(made["join_command"])
    assert line[0] == f"RETIRE_CLUSTER_JOIN_TOKEN={made['token']}"
    assert (line[1:3], line[-2:]) == (["python3", "-Ic"], ["--join", "192.0.2.7:8080"])
    assert zipapp.archive().sha256 in line[3]
    assert "HTTPSConnection" in line[3], "the token's link says that the gateway speaks TLS"
    row = tokens.redeem(made["token"], now=timezone.now())
    assert row is not None
    assert (row.pk, row.role, row.tags, row.max_slots) == (made["id"], "mobile", ["attic"], 1)


def test_a_gateway_on_loopback_is_joined_from_this_machine(admin: Api, settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR, settings.CLUSTER_HOST, settings.CLUSTER_PORT = tmp_path, "localhost", 8099

    made = admin.post("join-tokens", {"name": "here"}).json()["data"]

    assert made["join_command"].endswith(" --join 127.0.0.1:8099")
    assert "HTTPConnection" in made["join_command"]


@pytest.mark.parametrize(
    ("join_host", "cluster_host", "reached_as", "expected"),
    [
        ("", "192.0.2.7", "192.0.2.5", "192.0.2.7"),
        ("", "gateway.example", "192.0.2.5", "gateway.example"),
        ("", "no-such-container", "192.0.2.5", "192.0.2.5"),
        ("", "no-such-container", "", "no-such-container"),
        ("", "no-such-container", "localhost", "no-such-container"),
        ("", "localhost", "192.0.2.5", "192.0.2.5"),
        ("nas.lan", "localhost", "192.0.2.5", "nas.lan"),
        ("nas.lan", "no-such-container", "", "nas.lan"),
    ],
)
def test_a_join_line_names_what_devices_can_reach(
    settings: Any, tmp_path: Path, join_host: str, cluster_host: str, reached_as: str, expected: str
) -> None:
    settings.DATA_DIR, settings.JOIN_HOST, settings.CLUSTER_HOST = tmp_path, join_host, cluster_host
    settings.CLUSTER_PORT = 8080

    line = joining.command(f"rcj1_a_b_{'c' * 64}", reached_as=reached_as)

    assert line.endswith(f" --join {expected}:8080")


def test_a_gateway_that_listens_everywhere_prints_the_configured_name(settings: Any) -> None:
    gateway = SimpleNamespace(host="0.0.0.0", port=8080, tls=None)
    settings.JOIN_HOST = "nas.lan"

    assert joining.command_at(gateway, "rcj1_a_b_plain").endswith(" --join nas.lan:8080")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "link", "connection"),
    [
        ("192.0.2.7", "", "HTTPSConnection"),
        ("192.0.2.7", "plain", "HTTPConnection"),
        ("localhost", "", "HTTPConnection"),
    ],
)
def test_the_join_line_fetches_the_agent_as_the_gateway_speaks(
    admin: Api, settings: Any, tmp_path: Path, host: str, link: str, connection: str
) -> None:
    settings.DATA_DIR, settings.CLUSTER_HOST = tmp_path, host
    tokens.local_token(tmp_path, link=link, now=timezone.now())

    made = admin.post("join-tokens", {"name": "one"}).json()["data"]["join_command"]

    assert f"c=h.{connection}(" in made


def test_a_join_token_is_used_up_and_revoked(admin: Api) -> None:
    made = admin.post("join-tokens", {"name": "one", "max_uses": 1}).json()["data"]
    tokens.redeem(made["token"], now=timezone.now())
    other = admin.post("join-tokens", {"name": "two"}).json()["data"]

    revoked = admin.send("DELETE", f"join-tokens/{other['id']}")

    assert admin.data(f"join-tokens/{made['id']}")["is_active"] is False
    assert (revoked.status_code, revoked.json()["data"]["is_active"]) == (200, False)
    with pytest.raises(tokens.TokenRefused, match="revoked"):
        tokens.redeem(other["token"], now=timezone.now())


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": None}, "name"),
        ({"max_uses": 0}, "max_uses"),
        ({"max_slots": -1}, "max_slots"),
        ({"role": "king"}, "role"),
        ({"tags": ["a b"]}, "tags"),
        ({"expires_in_seconds": "1h"}, "expires_in_seconds"),
        ({"scopes": []}, "scopes"),
    ],
)
def test_a_wrong_request_for_a_token_names_the_field(admin: Api, body: dict[str, Any], field: str) -> None:
    assert field in _errors(admin.post("join-tokens", {"name": "phones", **body}))
    assert JoinToken.objects.count() == 0


def test_keys_are_never_on_record(admin: Api) -> None:
    key = _make(admin)["key"]
    secret = digest(key)

    for entry in AuditEntry.objects.all():
        assert key not in json.dumps(entry.details) + entry.target
        assert secret not in json.dumps(entry.details) + entry.target
