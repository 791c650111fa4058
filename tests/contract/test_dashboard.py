"""Every page of the dashboard: it opens, it shows what is true, its buttons act, and strangers get nothing."""

import re
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from clusterconfig import audit, keys, services, tokens
from clusterconfig.audit import SYSTEM
from clusterconfig.keys import Scope
from clusterconfig.models import ApiKey, AuditEntry, ConfigChange, JoinToken
from devices.models import Device, Ping
from retire_cluster import db
from retire_cluster.events import outbox
from tasks import history, statistics
from tasks.models import OutputChunk, Task
from tests.factories import make_attempt, make_device, make_finished_task, make_task

pytestmark = pytest.mark.django_db

NOWHERE = uuid.UUID(int=0)


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    statistics.forget_cached()
    history.forget_cached()
    yield
    statistics.forget_cached()


def visitor(*, staff: bool | None = None, csrf: bool = False) -> Client:
    """Nobody, a user, or a member of staff."""
    client = Client(SERVER_NAME="localhost", headers={"Accept": "text/html"}, enforce_csrf_checks=csrf)
    if staff is not None:
        client.force_login(User.objects.create_user(f"visitor-{staff}-{csrf}", is_staff=staff))
    return client


@pytest.fixture
def staff(db: None) -> Client:
    return visitor(staff=True)


def html(client: Client, path: str, status: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == status, answer.content[:500]
    return answer.content.decode()


def said(answer: Any) -> str:
    """What the page after a button says was done."""
    page = answer.content.decode()
    found = re.search(r'<div class="messages">(.*?)</div>', page, re.DOTALL)
    return re.sub(r"<[^>]+>|\s+", " ", found[1]).strip() if found else ""


def pages() -> list[str]:
    """Every page there is to read, with something on each."""
    device = make_device("nuc", metrics={"cpu_percent": 12.5, "temperature_c": 48.0})
    make_device("phone", online=False, status_reason="connection lost", platform="android")
    done, waiting = make_finished_task(device), make_task()
    running = make_task(status="running", device_id="nuc", started_at=db.now())
    make_attempt(running, device)
    keys.create("a key", [Scope.READ], now=timezone.now())
    _, token = tokens.create("a token", now=timezone.now())
    with db.write_transaction():
        outbox.record("device.online", {"device_id": "nuc", "status": "online", "joined": True})
    return [
        "/",
        "/devices/",
        "/devices/?view=table",
        "/devices/nuc/",
        "/devices/phone/",
        "/tasks/",
        f"/tasks/{done.pk}/",
        f"/tasks/{waiting.pk}/",
        f"/tasks/{running.pk}/",
        "/submit/",
        "/submit/?type=command",
        "/add-device/",
        f"/add-device/?token={token.pk}",
        "/activity/",
        "/settings/",
    ]


FOR_STAFF = ("/settings/",)


# --- reading --------------------------------------------------------------------------------------------------


def test_every_page_opens_for_whoever_may_read_it() -> None:
    for path in pages():
        for client in (visitor(), visitor(staff=False), visitor(staff=True)):
            status = client.get(path).status_code
            if path in FOR_STAFF and client.session.get("_auth_user_id") is None:
                assert status == 302, path
            elif path in FOR_STAFF and not User.objects.get(pk=client.session["_auth_user_id"]).is_staff:
                assert status == 403, path
            else:
                assert status == 200, path
        User.objects.all().delete()
