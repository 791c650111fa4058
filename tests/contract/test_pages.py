"""/health, /, the browsable API, the admin: what people and monitors look at."""

import html
import re
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.templatetags.static import static
from django.test import Client
from django.urls import reverse

from clusterconfig.keys import Scope, create
from clusterconfig.models import ApiKey, JoinToken
from devices.models import Gateway
from retire_cluster import ops
from retire_cluster.relay.headers import VIA
from tests.contract.conftest import Api
from tests.factories import START, make_attempt, make_device, make_finished_task, make_task

pytestmark = pytest.mark.django_db

XSS = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
HTML = {"Accept": "text/html", "Host": "localhost"}


def _gateway(monkeypatch: pytest.MonkeyPatch, **answer: Any) -> None:
    monkeypatch.setattr(ops, "local_gateway", lambda: answer)


@pytest.mark.parametrize("path", ["/health", "/health/"])
def test_health_is_bare_with_exactly_three_components(api: Api, path: str) -> None:
    answer = api.get(path)

    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"status", "timestamp", "components", "services"}
    assert body["status"] == "healthy"
    assert body["components"] == {"api": "healthy", "cluster_server": "healthy", "task_scheduler": "healthy"}
    assert body["services"]["database"]["engine"] == connection.vendor


def test_degraded_is_200_and_unhealthy_503(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    _gateway(monkeypatch, status="healthy", scheduler="degraded")
    degraded = api.get("/health")
    _gateway(monkeypatch, status="unhealthy", scheduler="unhealthy")
    unhealthy = api.get("/health")

    assert (degraded.status_code, degraded.json()["status"]) == (200, "degraded")
    assert (unhealthy.status_code, unhealthy.json()["status"]) == (503, "unhealthy")


def test_nonsense_from_the_gateway_is_unhealthy(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    _gateway(monkeypatch, status="splendid")

    assert api.get("/health").json()["components"]["cluster_server"] == "unhealthy"


def test_a_database_that_does_not_answer_is_seen(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> Any:
        raise OperationalError("password of the house")

    monkeypatch.setattr("django.db.backends.base.base.BaseDatabaseWrapper.cursor", refuse)
    answer = api.get("/health")

    assert (answer.status_code, answer.json()["components"]["api"]) == (503, "unhealthy")
    assert "password" not in answer.content.decode()


def test_health_is_only_read(api: Api) -> None:
    assert api.post("/health").status_code == 405


def test_the_first_page_of_an_empty_cluster_teaches_both_first_steps(client: Client) -> None:
    page = client.get("/", headers={**HTML, "Host": "192.168.1.5:8081"}).content.decode()

    assert "RETIRE_CLUSTER_JOIN_TOKEN=TOKEN python3 -Ic " in page
    assert " --join 192.168.1.5:8080</code>" in page
    assert "curl -X POST http://192.168.1.5:8081/api/v1/tasks" in page
    through_a_relay = {**HTML, "Host": "192.168.1.5:8081", "Via": VIA.decode()}
    relayed = client.get("/", headers=through_a_relay).content.decode()
    assert "--join" in relayed
    assert "--join 192.168.1.5" not in relayed, "devices join at the gateway, not at the relay"
    assert "rcj1_" not in page


def test_the_first_page_shows_devices_tasks_and_counts(client: Client) -> None:
    device = make_device("nuc-01")
    make_device("pixel-3a", online=False, status_reason="connection lost at noon")
    make_attempt(make_task(status="running", device_id="nuc-01"), device)
    make_finished_task(device)

    page = client.get("/", headers=HTML).content.decode()

    assert "connection lost at noon" in page
    assert "1 of 4 slots busy" in page
    assert "<strong>1<small>/2</small></strong>" in page
    assert '<span class="chip success">success</span>' in page


def test_what_devices_and_clients_say_is_escaped(client: Client) -> None:
    make_device("evil", status_reason=XSS, tags=[XSS], platform="<b>x</b>", role=XSS[:10], agent_version=XSS)
    make_device("odd", paused_reason=XSS)
    make_task(task_type=XSS, device_id=XSS)

    for path in ("/", "/api/v1/devices/evil", "/api/v1/tasks", "/api/v1/devices"):
        page = client.get(path, headers=HTML).content.decode()
        assert "<script>alert" not in page, path
        assert "<img src=x" not in page, path
        assert "<b>x</b>" not in page, path


def test_the_style_sheet_is_served(client: Client) -> None:
    answer = client.get("/static/retire_cluster/style.css", headers={"Host": "localhost"})

    assert answer.status_code == 200
    assert b"--accent" in b"".join(answer.streaming_content)  # type: ignore[attr-defined]  # a file's answer
    answer.close()


def test_a_browser_may_keep_files_whose_addresses_change_with_them(client: Client) -> None:
    page = client.get("/", headers=HTML).content.decode()
    files = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)

    assert files
    for file in files:
        answer = client.get(file, headers={"Host": "localhost"})
        assert (answer.status_code, answer["Cache-Control"]) == (200, "max-age=86400, public"), file
        assert answer["ETag"] or answer["Last-Modified"], file
        assert re.search(r"\?v=[0-9a-f]{12}$", file), file
        answer.close()
    assert "?" not in static("retire_cluster/none.js")


def test_only_the_pages_of_the_api_have_the_looser_policy(api: Api) -> None:
    page = api.get("tasks", headers={"Accept": "text/html"})
    answer = api.get("tasks")

    assert "style-src 'self' 'unsafe-inline'" in page["Content-Security-Policy"]
    assert "script-src 'self';" in page["Content-Security-Policy"]
    assert "unsafe" not in answer["Content-Security-Policy"]


def test_answers_of_the_api_are_not_cached(api: Api) -> None:
    assert api.get("tasks")["Cache-Control"] == "no-store"


def _browsable_paths() -> list[str]:
    done = make_finished_task(make_device("nuc", metrics={"cpu_percent": 1.0}))
    waiting = make_task()
    return [
        "/api/v1",
        "/api/v1/cluster/status",
        "/api/v1/devices",
        "/api/v1/devices?status=bad",
        "/api/v1/devices/nuc",
        "/api/v1/devices/nobody",
        "/api/v1/tasks",
        "/api/v1/tasks?cursor=",
        "/api/v1/tasks/types",
        f"/api/v1/tasks/{done.pk}",
        f"/api/v1/tasks/{done.pk}/result",
        f"/api/v1/tasks/{waiting.pk}/result",
        f"/api/v1/tasks/{waiting.pk}/status",
        "/api/v1/nothing",
    ]


@pytest.mark.parametrize("signed_in", [False, True])
def test_every_endpoint_has_a_browsable_page_with_the_envelope(signed_in: bool) -> None:
    client = Client(SERVER_NAME="localhost")
    if signed_in:
        client.force_login(User.objects.create_superuser("root", password="x"))
    for path in _browsable_paths():
        answer = client.get(path, headers=HTML)
        page = answer.content.decode()
        assert answer["Content-Type"].startswith("text/html"), path
        assert "request_id" in page, path
        assert answer.status_code in (200, 400, 404), path


def test_the_browsable_api_shows_a_form_for_raw_json(client: Client) -> None:
    page = client.get("/api/v1/tasks", headers=HTML).content.decode()

    assert 'name="_content"' in page


def test_the_browsable_api_shows_a_posted_task() -> None:
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.create_superuser("root", password="x"))

    answer = client.post(
        "/api/v1/tasks", '{"task_type": "echo", "payload": {}}', content_type="application/json", headers=HTML
    )

    assert answer.status_code == 201
    assert "queued" in answer.content.decode()


def test_every_model_of_the_project_is_registered_in_the_admin() -> None:
    ours = {
        model
        for label in ("devices", "tasks", "clusterconfig", "events")
        for model in apps.get_app_config(label).get_models()
    }

    assert ours <= set(admin.site._registry)


def test_every_admin_page_opens_and_none_can_change_anything() -> None:
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.create_superuser("root", password="x"))
    Gateway.objects.create(host="0.0.0.0", port=8080, tls=True, started_at=START)
    create("key", [Scope.ADMIN], now=START)
    make_finished_task(make_device("nuc", metrics={}))
    for model in admin.site._registry:
        if model._meta.app_label not in ("devices", "tasks", "clusterconfig", "events"):
            continue
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        assert client.get(reverse(f"{name}_changelist"), {"q": "x"}).status_code == 200, name
        can_add = model in (ApiKey, JoinToken)  # through the services; the secret is shown once
        assert client.get(reverse(f"{name}_add")).status_code == (200 if can_add else 403), name
        row = model._default_manager.first()
        if row is not None:
            assert client.get(reverse(f"{name}_change", args=[row.pk])).status_code == 200, name
            assert client.post(reverse(f"{name}_change", args=[row.pk]), {}).status_code == 403, name
            assert client.post(reverse(f"{name}_delete", args=[row.pk]), {}).status_code == 403, name


def test_the_admin_shows_no_hash_of_a_secret() -> None:
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.create_superuser("root", password="x"))
    _, key = create("key", [Scope.ADMIN], now=START)
    device = make_device(secret_digest="d" * 64)

    for name, row in (("clusterconfig_apikey", key), ("devices_device", device)):
        page = client.get(reverse(f"admin:{name}_change", args=[row.pk])).content.decode()
        assert key.digest not in page
        assert "d" * 64 not in page


def test_the_browsable_lists_have_a_form_for_their_filters(client: Client) -> None:
    page = client.get(
        "/api/v1/tasks?status=failed,timeout", headers={"Host": "localhost", "Accept": "text/html"}
    )

    text = page.content.decode()
    assert 'name="created_after"' in text
    assert 'value="failed,timeout"' in text


@pytest.mark.parametrize(
    ("path", "word"), [("tasks", "Hello World"), ("keys", "my script"), ("join-tokens", "old phones")]
)
def test_a_form_begins_with_an_example_that_works(path: str, word: str) -> None:
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.create_superuser("root", password="x"))
    page = client.get(
        f"/api/v1/{path}", headers={"Host": "localhost", "Accept": "text/html"}
    ).content.decode()

    assert word in page
    content = html.unescape(re.findall(r"<textarea[^>]*>(.*?)</textarea>", page, re.DOTALL)[-1])
    answer = client.post(
        f"/api/v1/{path}", content, content_type="application/json", headers={"Host": "localhost"}
    )
    assert answer.status_code == 201, answer.content
    assert "Retire-Cluster" in page
    assert "Django REST framework</a>" not in page
