"""The configuration over REST: read, changed in part, checked as a whole, versioned, on record, reset."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from clusterconfig import services
from clusterconfig.keys import Scope
from clusterconfig.models import AuditEntry, ConfigChange
from devices.models import Gateway
from tests.contract.conftest import Api
from tests.factories import START

pytestmark = pytest.mark.django_db

DEFAULTS: dict[str, dict[str, Any]] = {
    "server": {"host": "0.0.0.0", "port": 8080, "max_connections": 1000},
    "heartbeat": {"interval": 60, "timeout": 300, "max_missed": 3, "reconnect_grace": 5},
    "scheduler": {"max_device_losses": 3},
    "retention": {"tasks_days": 30, "output_days": 14, "metrics_days": 7, "audit_days": 365},
}


@pytest.fixture
def admin(keyed: Callable[..., Api]) -> Api:
    """An administrator of a cluster whose gateway listens; nothing is on record yet."""
    client = keyed(Scope.ADMIN)
    Gateway.objects.create(host="0.0.0.0", port=8080, tls=True, started_at=START)
    AuditEntry.objects.all().delete()
    return client


def put(admin: Api, section: str, body: Any, **headers: str) -> Any:
    data = body if isinstance(body, str) else json.dumps(body)
    return admin.send("PUT", f"config/{section}", data=data, content_type="application/json", headers=headers)


def changed(admin: Api, section: str, body: Any, **headers: str) -> Any:
    answer = put(admin, section, body, **headers)
    assert answer.status_code == 200, answer.content
    return answer.json()["data"]


def refused(answer: Any) -> dict[str, str]:
    assert answer.status_code == 400, answer.content
    details = answer.json()["error_details"]
    return {error["field"]: error["reason"] for error in details.get("errors", [details])}


def test_everything_has_a_default(admin: Api) -> None:
    assert admin.data("config") == DEFAULTS
    for section, values in DEFAULTS.items():
        assert admin.data(f"config/{section}") == values


def test_the_specification_s_calls_work(admin: Api) -> None:
    assert changed(admin, "server", {"max_connections": 100})["max_connections"] == 100
    heartbeat = {"interval": 60, "timeout": 300, "max_missed": 3}
    assert changed(admin, "heartbeat", heartbeat) == {**heartbeat, "reconnect_grace": 5}


def test_a_part_is_changed_and_the_whole_is_answered(admin: Api) -> None:
    assert changed(admin, "heartbeat", {"interval": 10}) == {**DEFAULTS["heartbeat"], "interval": 10}
    assert changed(admin, "heartbeat", {"max_missed": 5})["interval"] == 10
    assert admin.data("config")["heartbeat"]["max_missed"] == 5
    assert changed(admin, "heartbeat", {}) == admin.data("config/heartbeat")


def test_a_change_is_in_force_at_once(admin: Api) -> None:
    assert services.current().heartbeat.interval == 60
    changed(admin, "heartbeat", {"interval": 10})
    assert services.current().heartbeat.interval == 10


def test_what_is_shown_only_may_come_back_unchanged(admin: Api) -> None:
    whole = {**admin.data("config/server"), "max_connections": 7}

    assert changed(admin, "server", whole) == whole


def test_what_is_shown_only_cannot_be_changed(admin: Api) -> None:
    answer = put(admin, "server", {"host": "::", "port": True, "max_connections": 0, "x": 1})

    wrong = refused(answer)
    assert set(wrong) == {"host", "port", "max_connections", "x"}
    assert "--host" in wrong["host"]
    assert admin.data("config/server") == DEFAULTS["server"]


@pytest.mark.parametrize(
    ("section", "body", "field"),
    [
        ("server", {"max_connections": 0}, "max_connections"),
        ("server", {"max_connections": 100_001}, "max_connections"),
        ("server", {"max_connections": "100"}, "max_connections"),
        ("server", {"max_connections": True}, "max_connections"),
        ("server", {"max_connections": 1.5}, "max_connections"),
        ("server", {"max_connections": None}, "max_connections"),
        ("server", {"max_conections": 5}, "max_conections"),
        ("server", [], "body"),
        ("server", "not json", "body"),
        ("heartbeat", {"interval": 301}, "interval"),
        ("heartbeat", {"interval": 10**400}, "interval"),
        ("heartbeat", {"interval": 300}, "timeout"),
        ("heartbeat", {"timeout": 60}, "timeout"),
        ("heartbeat", {"interval": 3, "timeout": 2}, "timeout"),
        ("heartbeat", {"max_missed": 11}, "max_missed"),
        ("heartbeat", {"host": "x"}, "host"),
        ("scheduler", {"max_device_losses": -1}, "max_device_losses"),
        ("retention", {"tasks_days": 0}, "tasks_days"),
    ],
)
def test_bad_values_name_their_field_and_change_nothing(
    admin: Api, section: str, body: Any, field: str
) -> None:
    assert field in refused(put(admin, section, body))
    assert admin.data("config") == DEFAULTS
    assert not ConfigChange.objects.exists()


def test_an_unknown_section_is_404(admin: Api) -> None:
    assert admin.get("config/nothing").status_code == 404
    assert put(admin, "reset", {}).status_code == 405


# --- versions -------------------------------------------------------------------------------------------------


def test_each_change_has_a_tag_of_its_own(admin: Api) -> None:
    tags = [admin.get("config/server")["ETag"]]
    tags.append(put(admin, "server", {"max_connections": 5})["ETag"])
    assert admin.get("config/server")["ETag"] == tags[1]
    tags.append(put(admin, "server", {"max_connections": 6})["ETag"])
    admin.post("config/reset", {})
    tags.append(admin.get("config/server")["ETag"])

    assert tags == ['"server.0"', '"server.1"', '"server.2"', '"server.3"']


def test_what_changes_nothing_keeps_the_tag(admin: Api) -> None:
    first = put(admin, "server", {"max_connections": 5})["ETag"]

    assert put(admin, "server", {"max_connections": 5})["ETag"] == first
    assert put(admin, "server", {})["ETag"] == first


def test_if_match_lets_the_first_one_win(admin: Api) -> None:
    tag = admin.get("config/server")["ETag"]
    first = put(admin, "server", {"max_connections": 5}, **{"If-Match": tag})
    second = put(admin, "server", {"max_connections": 6}, **{"If-Match": tag})

    assert (first.status_code, second.status_code) == (200, 412)
    error = second.json()
    assert error["error_code"] == "PRECONDITION_FAILED"
    assert error["error_details"]["field"] == "If-Match"
    assert second["ETag"] == error["error_details"]["etag"] == first["ETag"]
    assert admin.data("config/server")["max_connections"] == 5


@pytest.mark.parametrize("header", ["*", '"server.0"', '"x", "server.0"'])
def test_a_tag_that_matches_lets_the_change_pass(admin: Api, header: str) -> None:
    assert put(admin, "server", {"max_connections": 5}, **{"If-Match": header}).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        '"server.1"',
        '"heartbeat.0"',
        'W/"server.0"',
        "server.0",
        '"server.00"',
        '"server.-0"',
        '"server.' + "9" * 5000 + '"',
        "",
        "nonsense",
        '"server.7", *',
    ],
)
def test_any_other_tag_is_412(admin: Api, header: str) -> None:
    assert put(admin, "server", {"max_connections": 5}, **{"If-Match": header}).status_code == 412
    assert admin.data("config/server") == DEFAULTS["server"]


def test_a_bad_value_is_told_before_nothing_else_is_wrong(admin: Api) -> None:
    answer = put(admin, "server", {"max_connections": 0}, **{"If-Match": '"server.0"'})

    assert refused(answer).keys() == {"max_connections"}


# --- history and reset ----------------------------------------------------------------------------------------


def test_who_changed_what_from_what_is_kept(admin: Api) -> None:
    changed(admin, "heartbeat", {"interval": 10, "timeout": 300})
    changed(admin, "heartbeat", {"interval": 20})

    rows = [(row.section, row.version, row.old, row.new) for row in ConfigChange.objects.order_by("id")]
    assert rows == [
        ("heartbeat", 1, {"interval": 60}, {"interval": 10}),
        ("heartbeat", 2, {"interval": 10}, {"interval": 20}),
    ]
    entry = AuditEntry.objects.order_by("id").last()
    assert entry is not None
    assert (entry.action, entry.target) == ("config.change", "heartbeat")
    assert entry.details == {"old": {"interval": 10}, "new": {"interval": 20}, "version": 2}
    assert entry.actor == ConfigChange.objects.latest("id").changed_by
    assert entry.actor.startswith("key:")


def test_reset_brings_every_default_back(admin: Api) -> None:
    changed(admin, "server", {"max_connections": 5})
    changed(admin, "heartbeat", {"interval": 10})

    answer = admin.send("POST", "config/reset", content_type="application/json")

    assert answer.status_code == 200
    assert answer.json()["data"] == DEFAULTS == admin.data("config")
    entry = AuditEntry.objects.get(action="config.reset")
    assert entry.target == "heartbeat,server"
    assert entry.details["server"] == {
        "old": {"max_connections": 5},
        "new": {"max_connections": 1000},
        "version": 2,
    }
    assert services.current().heartbeat.interval == 60


def test_a_reset_of_nothing_is_not_on_record(admin: Api) -> None:
    admin.post("config/reset", {})

    assert not AuditEntry.objects.exists()
    assert not ConfigChange.objects.exists()


def test_reset_takes_no_keys(admin: Api) -> None:
    assert "section" in refused(admin.post("config/reset", {"section": "server"}))


# --- cost -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "statements"), [("config", 2), ("config/heartbeat", 1), ("config/server", 2)]
)
def test_reading_costs_few_statements(admin: Api, path: str, statements: int) -> None:
    admin.data(path)  # the key's first use is written down
    with CaptureQueriesContext(connection) as queries:
        admin.data(path)

    assert len(queries) - 1 == statements  # one looks the key up
