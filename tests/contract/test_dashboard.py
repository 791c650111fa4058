"""Every page of the dashboard: it opens, it shows what is true, its buttons act, and strangers get nothing."""

import json
import re
import shlex
import uuid
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from clusterconfig import keys, services, throttling, tokens
from clusterconfig.keys import Scope
from clusterconfig.models import ApiKey, AuditEntry, ConfigChange, JoinToken
from devices import pings
from devices.models import Device, Ping
from retire_cluster import __version__, db
from retire_cluster.api.remembered import Remembered
from retire_cluster.dashboard import words
from retire_cluster.events import outbox
from retire_cluster.protocol.tasktypes import BUILTIN_TYPES
from tasks import history, statistics
from tasks.models import OutputChunk, Profile, Task
from tests.factories import START, make_attempt, make_device, make_finished_task, make_task
from tests.hostile import HOSTILE, said_everywhere

pytestmark = pytest.mark.django_db

NOWHERE = uuid.UUID(int=0)
STARTS = "1 device fits with room: it starts in a moment"


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


def test_auth_all_closes_every_page(settings: Any) -> None:
    paths = pages()
    settings.AUTH = "all"
    for path in paths:
        answer = visitor().get(path)
        assert answer.status_code == 302, path
        assert answer["Location"].startswith("/sign-in/?next="), path
        assert visitor(staff=False).get(path).status_code in (200, 403), path
        User.objects.all().delete()


def test_every_page_is_strict_and_loads_only_files_of_its_own(staff: Client) -> None:
    for path in pages():
        answer = staff.get(path)
        page = answer.content.decode()
        assert "unsafe" not in answer["Content-Security-Policy"], path
        assert re.search(r"\sstyle=|<style|\son\w+=", page) is None, path
        assert "no-cache" in answer["Cache-Control"] or "no-store" in answer["Cache-Control"], path
        for script in re.findall(r"<script[^>]*>", page):
            assert re.search(r'src="/static/', script), script
        for link in re.findall(r'(?:src|href|action)="([^"]*)"', page):
            assert link.startswith(("/", "?", "#")), (path, link)


def test_every_form_that_changes_something_carries_the_token(staff: Client) -> None:
    for path in pages():
        for form in re.findall(r'<form[^>]*method="post".*?</form>', html(staff, path), re.DOTALL):
            assert "csrfmiddlewaretoken" in form, path


def test_every_link_of_every_page_leads_somewhere(staff: Client) -> None:
    links: set[str] = set()
    for path in pages():
        for link in re.findall(r'<a [^>]*href="([^"#]+)"', html(staff, path)):
            links.add(link.replace("&amp;", "&") if link.startswith("/") else f"{path.split('?')[0]}{link}")
    broken = {link: staff.get(link).status_code for link in links if not link.startswith("/api/docs")}

    assert {link: status for link, status in broken.items() if status != 200} == {}


LIVE = (
    "<script>alert",
    "<img src=x",
    "<svg onload",
    "onerror=alert(1)>",
    "</textarea></code>",
    'href="javascript:',
)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_devices_and_users_say_is_text_everywhere(staff: Client, text: str) -> None:
    for path in said_everywhere(text):
        page = staff.get(path).content.decode()
        for piece in LIVE:
            assert piece not in page, (path, piece)
        assert "49{" not in page


def test_an_address_with_a_wrong_filter_says_which_and_why(staff: Client) -> None:
    wrong = html(staff, "/tasks/?status=nonsense", 400)
    assert "status" in wrong
    assert "must be one of pending" in wrong
    assert "cursor" in html(staff, "/tasks/?cursor=nonsense", 400)
    assert "must be one of" in html(staff, "/devices/?role=nonsense", 400)
    assert "since" in html(staff, "/activity/?since=nonsense", 400)


def test_what_is_not_there_is_a_page_that_says_so(staff: Client) -> None:
    assert "there is no task" in html(staff, f"/tasks/{NOWHERE}/", 404)
    assert "there is no device nobody" in html(staff, "/devices/nobody/", 404)
    answer = staff.get("/tasks?status=queued")
    assert (answer.status_code, answer["Location"]) == (301, "/tasks/?status=queued")
    assert staff.get("/nothing").status_code == 404


def test_a_device_of_another_version_shows_the_line_that_updates_it() -> None:
    make_device("old", agent_version="0.0.1")
    make_device("new", agent_version=__version__)

    page = html(visitor(), "/devices/old/")
    line = re.search(r'<code id="update">(.*?)</code>', page)

    assert f"Its agent is 0.0.1, this server's is {__version__}." in page
    assert line
    assert unescape(line[1]).startswith("python3 -Ic '")
    assert "Another version" not in html(visitor(), "/devices/new/")


# --- the overview ---------------------------------------------------------------------------------------------


def test_what_needs_attention_is_said_with_its_reason() -> None:
    make_device("gone", online=False, status_reason="nobody heard of it", disconnected_at=db.now())
    make_device("hot", metrics={"temperature_c": 91.0})
    make_device("low", platform="android", metrics={"battery_percent": 9.0, "charging": False})
    make_device("zz-plugged", platform="android", metrics={"battery_percent": 9.0, "charging": True})
    make_device("old", agent_version="0.0.1")
    make_device("out", cordoned=True, cordon_reason="new disk")
    make_device("tired", paused_reason="41.5 °C")
    profile = Profile.objects.create(
        digest="1" * 64, task_type="echo", requirements={"gpu_required": True}, last_used_at=START
    )
    for _ in range(3):
        make_task(profile=profile)
    make_task()

    page = html(visitor(), "/")
    listed = re.search(r'id="attention".*?</section>', page, re.DOTALL)
    assert listed
    text = re.sub(r"<[^>]+>|\s+", " ", listed[0])
    text = re.sub(r"\s+", " ", text)
    for sentence in (
        "3 tasks of type echo can run nowhere",
        "needs a GPU",
        "gone went offline",
        "nobody heard of it",
        "hot is hot: 91 °C",
        "low has 9 % battery left",
        "old runs another version",
        "out is out of service new disk",
        "tired is paused 41.5 °C",
    ):
        assert sentence in text, (sentence, text)
    assert "zz-plugged" not in text


def test_a_calm_cluster_says_that_nothing_needs_anybody() -> None:
    make_device("nuc", agent_version=__version__)

    assert "Nothing. Every device is online" in html(visitor(), "/")


def test_the_stream_has_a_bar_for_each_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    device = make_device("nuc")
    now = db.now()
    monkeypatch.setattr(db, "now", lambda: now)  # it stands still while the page is made
    make_attempt(make_task(status="running"), device, offered_at=now, accepted_at=now)
    make_attempt(
        make_task(status="failed"),
        device,
        outcome="failed",
        accepted_at=now - timedelta(minutes=5),
        ended_at=now - timedelta(minutes=4),
    )
    make_attempt(make_task(status="success"), device, outcome="success", ended_at=now - timedelta(hours=1))

    lane = re.search(r'<svg class="lane".*?</svg>', html(visitor(), "/"), re.DOTALL)

    assert lane
    drawn = re.findall(r'class="c-(\w+)" x="([\d.]+)" y="3" width="([\d.]+)"', lane[0])
    assert [outcome for outcome, *_ in drawn] == ["running", "failed"]
    assert [float(x) for _, x, _ in drawn] == pytest.approx([99.6, 50.0], abs=0.5)
    assert [float(width) for *_, width in drawn] == pytest.approx([0.4, 10.0], abs=0.01)


# --- statements -----------------------------------------------------------------------------------------------

OURS = ("tasks_", "devices_", "clusterconfig_", "events_", "auth_", "django_session")  # clocks are none
MOST = {
    "/": 25,
    "/devices/": 13,
    "/devices/?view=table": 11,
    "/devices/device-0/": 17,
    "/tasks/": 10,
    "/submit/": 9,
    "/add-device/": 8,
    "/activity/": 8,
    "/settings/": 10,
}


@pytest.mark.parametrize("path", ["/", "/tasks/"])
def test_a_page_says_when_figures_that_were_remembered_can_be_had_anew(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would say `running` after the last event for as long as nothing else happens."""
    monkeypatch.setattr(statistics, "_figures", Remembered(3600.0))
    monkeypatch.setattr(history, "_ended", Remembered(3600.0))
    client = visitor()

    found, remembered = client.get(path), client.get(path)

    assert found.headers["X-Draw-Again"] == "0"
    assert b'data-again="0"' in found.content
    after_ms = int(remembered.headers["X-Draw-Again"])
    assert 1_000_000 < after_ms <= 3_600_000
    assert f'data-again="{after_ms}"'.encode() in remembered.content


@pytest.mark.parametrize("path", MOST)
def test_a_page_costs_so_many_statements_however_much_there_is(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Remembered figures are found anew each time, so these are the most there can be; a session costs two."""
    monkeypatch.setattr(services, "CACHE_S", 3600.0)  # else a page that takes longer reads the settings again
    monkeypatch.setattr(statistics, "_figures", Remembered(3600.0))  # and finds its figures twice
    monkeypatch.setattr(history, "_ended", Remembered(3600.0))

    def fill(number: int) -> None:
        for index in range(number):
            name = f"device-{Device.objects.count()}"
            device = make_device(name, metrics={"cpu_percent": 1.0})
            make_finished_task(device)
            make_attempt(make_task(status="running", device_id=name), device)
            make_task()
            keys.create(f"key {index}", [Scope.READ], now=timezone.now())
            tokens.create(f"token {index}", now=timezone.now())
            with db.write_transaction():
                outbox.record("device.online", {"device_id": name, "status": "online", "joined": True})

    client = visitor(staff=True)

    def count() -> list[str]:
        statistics.forget_cached()
        history.forget_cached()
        services.forget_cached()
        with CaptureQueriesContext(connection) as queries:
            assert client.get(path).status_code == 200
        return [query["sql"] for query in queries if any(table in query["sql"] for table in OURS)]

    fill(2)
    count()  # what is made at first use
    few = count()
    fill(20)
    many = count()

    assert len(many) == len(few)
    assert len(many) - 2 == MOST[path]


# --- buttons --------------------------------------------------------------------------------------------------


def press(client: Client, path: str, **fields: Any) -> Any:
    return client.post(path, {"next": "/devices/", **fields}, follow=True)


BUTTONS = {
    "/devices/nuc/ping/": {},
    "/devices/nuc/cordon/": {"reason": "dusty"},
    "/devices/nuc/uncordon/": {},
    "/devices/nuc/drain/": {"hours": "0"},
    "/devices/nuc/remove/": {"confirm": "nuc"},
    "/tasks/cancel/": {"task": str(NOWHERE)},
    "/tasks/retry/": {"task": str(NOWHERE)},
    "/add-device/token/": {"name": "x"},
    "/settings/": {"section": "heartbeat"},
    "/settings/keys/": {"name": "x", "scopes": "read"},
    f"/settings/keys/{NOWHERE}/revoke/": {},
    "/settings/tokens/abc/revoke/": {},
}


@pytest.mark.parametrize("path", BUTTONS)
def test_buttons_are_for_those_who_may(path: str) -> None:
    make_device("nuc")
    before = list(Device.objects.values()), ApiKey.objects.count(), JoinToken.objects.count()

    strangers = visitor().post(path, BUTTONS[path])
    users = visitor(staff=False).post(path, BUTTONS[path])
    forged = visitor(staff=True, csrf=True).post(path, BUTTONS[path])

    assert (strangers.status_code, users.status_code, forged.status_code) == (302, 403, 403)
    assert strangers["Location"].startswith("/sign-in/")
    assert (list(Device.objects.values()), ApiKey.objects.count(), JoinToken.objects.count()) == before
    assert not AuditEntry.objects.exclude(action__startswith="user.").exists()


@pytest.mark.parametrize("path", [path for path in BUTTONS if path != "/settings/"])
def test_a_button_cannot_be_pressed_by_a_link(staff: Client, path: str) -> None:
    assert staff.get(path).status_code == 405


def test_a_device_is_cordoned_drained_and_brought_back(staff: Client) -> None:
    make_device("nuc")

    assert "takes no new task" in said(press(staff, "/devices/nuc/cordon/", reason="dusty"))
    assert Device.objects.get().cordon_reason == "dusty"
    assert "runs empty" in said(press(staff, "/devices/nuc/drain/", hours="8"))
    device = Device.objects.get()
    assert device.draining
    assert device.drain_deadline is not None
    assert "back in service" in said(press(staff, "/devices/nuc/uncordon/"))
    assert not Device.objects.get().cordoned
    assert [entry.action for entry in AuditEntry.objects.filter(target="nuc").order_by("id")] == [
        "device.cordon",
        "device.drain",
        "device.uncordon",
    ]
    assert "hours: must be" in said(press(staff, "/devices/nuc/drain/", hours="soon"))
    assert "reason: may have 500" in said(press(staff, "/devices/nuc/cordon/", reason="x" * 501))


def test_a_device_is_removed_once_its_name_was_typed(staff: Client) -> None:
    make_device("nuc")

    assert "type its name" in said(press(staff, "/devices/nuc/remove/", confirm="nuk"))
    assert Device.objects.members().count() == 1
    assert "was removed" in said(press(staff, "/devices/nuc/remove/", confirm="nuc"))
    assert Device.objects.members().count() == 0
    assert "no device nuc any more" in said(press(staff, "/devices/nuc/cordon/"))


def test_a_ping_says_how_long_it_took_or_why_not(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    make_device("nuc")
    make_device("phone", online=False, status_reason="its battery is empty")
    monkeypatch.setattr(pings, "ANSWER_WITHIN_S", 0.0)

    assert "its battery is empty" in said(press(staff, "/devices/phone/ping/"))
    assert "did not answer" in said(press(staff, "/devices/nuc/ping/"))

    def answered(ping_id: uuid.UUID, device_id: str, *, now: Any) -> None:
        Ping.objects.create(
            id=ping_id, device_id=device_id, requested_at=now, ended_at=now, response_time_ms=4.2
        )

    monkeypatch.setattr(pings, "request", answered)
    assert "answered within 4.2 ms" in said(press(staff, "/devices/nuc/ping/"))


def test_several_tasks_are_cancelled_and_what_cannot_be_is_said(staff: Client) -> None:
    waiting, other, done = make_task(), make_task(), make_finished_task(make_device())
    chosen = [str(waiting.pk), str(done.pk), str(other.pk), str(NOWHERE)]

    answer = said(press(staff, "/tasks/cancel/", task=chosen))

    assert "2 tasks cancelled" in answer
    assert f"Not cancelled: {str(done.pk)[-8:]}" in answer
    assert "no such task any more" in answer
    assert Task.objects.filter(status="cancelled").count() == 2
    assert "2 tasks queued again" in said(press(staff, "/tasks/retry/", task=chosen[:1] + chosen[2:3]))
    assert "No task was chosen" in said(press(staff, "/tasks/cancel/"))
    assert "must be the id" in said(press(staff, "/tasks/cancel/", task="x"))
    assert "At most 200" in said(press(staff, "/tasks/cancel/", task=[str(uuid.uuid4()) for _ in range(201)]))


def test_a_button_leads_back_to_pages_of_this_server_only(staff: Client) -> None:
    make_device("nuc")
    for target in ("https://evil.example/", "//evil.example/", "javascript:alert(1)"):
        answer = staff.post("/devices/nuc/cordon/", {"next": target})
        assert (answer.status_code, answer["Location"]) == (302, "/")


# --- submitting -----------------------------------------------------------------------------------------------


def filled(**fields: str) -> dict[str, str]:
    return {"task_type": "echo", "payload.payload": '{"message": "Hi"}', "once": str(uuid.uuid4()), **fields}


def test_a_task_is_submitted_once_however_often_the_form_is_sent(staff: Client) -> None:
    form = filled(priority="high", required_tags="disks, slow", min_memory_gb="1.5", max_retries="2")

    answers = [staff.post("/submit/", form) for _ in range(2)]

    task = Task.objects.get()
    assert [answer["Location"] for answer in answers] == [f"/tasks/{task.pk}/"] * 2
    assert (task.priority, task.payload, task.max_retries) == ("high", '{"message":"Hi"}', 2)
    assert task.requirements["required_tags"] == ["disks", "slow"]
    assert task.requirements["min_memory_gb"] == 1.5
    assert task.submitted_by.startswith("user:")


@pytest.mark.parametrize("task_type", [*BUILTIN_TYPES, "resize"])
def test_each_type_has_an_example_that_can_be_submitted(staff: Client, task_type: str) -> None:
    make_device(task_types=[*BUILTIN_TYPES, "resize"])
    page = html(staff, f"/submit/?type={task_type}")
    form = {
        name: unescape(value)
        for name, value in re.findall(r'<input [^>]*name="([^"]+)" value="([^"]*)"', page)
    }
    form |= {
        name: unescape(text)
        for name, text in re.findall(r'<textarea [^>]*name="([^"]+)".*?>(.*?)</textarea>', page, re.DOTALL)
    }

    answer = staff.post("/submit/", {**form, "task_type": task_type})

    assert answer.status_code == 302, answer.content.decode()
    assert Task.objects.get().task_type == task_type


@pytest.mark.parametrize(
    ("fields", "name", "reason"),
    [
        ({"payload.payload": "{"}, "payload.payload", "must be JSON"),
        ({"payload.payload": "[]"}, "payload.payload", "must be a JSON object"),
        ({"task_type": "sleep", "payload.duration": "soon"}, "payload.duration", "must be a number"),
        ({"task_type": "sleep", "payload.duration": "-1"}, "payload.duration", "must be a number from 0"),
        ({"task_type": "command", "payload.command": ""}, "payload.command", "must be a string"),
        ({"min_memory_gb": "much"}, "min_memory_gb", "must be a number"),
        ({"timeout_seconds": "0"}, "timeout_seconds", "must be a whole number from 1"),
        ({"required_tags": "a b"}, "required_tags", "must be 1 to 64"),
        ({"task_type": "nobody-has-this"}, "task_type", "no device offers"),
        ({"priority": "now"}, "priority", "must be one of"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_at_its_field_and_nothing_is_lost(
    staff: Client, fields: dict[str, str], name: str, reason: str
) -> None:
    answer = staff.post("/submit/", filled(**{"payload.payload": '{"kept": "text"}', **fields}))
    page = unescape(answer.content.decode())

    assert answer.status_code == 400
    assert reason in page
    at = page.index(reason)
    assert name in page[max(0, at - 700) : at]
    assert Task.objects.count() == 0
    if "payload.payload" not in fields and fields.get("task_type") is None:
        assert '{"kept": "text"}' in page


def test_only_who_may_run_code_submits_code() -> None:
    code = filled(task_type="command", **{"payload.command": "id"})
    for client, submits in ((visitor(), False), (visitor(staff=False), False), (visitor(staff=True), True)):
        answer = client.post("/submit/", code)
        assert answer.status_code == (302 if submits else 400)
    assert Task.objects.count() == 1
    assert visitor().post("/submit/", filled()).status_code == 302  # harmless: as in the API


def test_the_form_tells_which_devices_match(staff: Client) -> None:
    make_device("big", memory_mb=65536, allocatable_memory_mb=60000)
    make_device("small", memory_mb=1024, allocatable_memory_mb=700)
    make_device("away", online=False, memory_mb=65536, allocatable_memory_mb=60000)

    page = staff.post("/submit/matches/", filled(min_memory_gb="16")).content.decode()

    assert "Matches 2 of 3 devices now" in page
    assert "1 could start it at once" in page
    assert "must be a number" in staff.post("/submit/matches/", filled(min_memory_gb="x")).content.decode()


# --- joining --------------------------------------------------------------------------------------------------


def test_a_token_is_shown_once_with_its_command_and_a_picture(staff: Client) -> None:
    page = staff.post(
        "/add-device/token/", {"name": "phones", "max_uses": "2", "tags": "old"}
    ).content.decode()
    command = re.search(r'<code id="join">(.*?)</code>', page)

    token = JoinToken.objects.get()
    assert command
    assert command[1].startswith(f" RETIRE_CLUSTER_JOIN_TOKEN=rcj1_{token.pk}_")
    assert f"--token rcj1_{token.pk}_" in page, "for those who install the agent with pip"
    assert (token.name, token.max_uses, token.tags) == ("phones", 2, ["old"])
    assert re.search(r'<svg viewBox="[^"]+" class="qr">', page), "it shrinks, and is never cut off"
    assert 'style="' not in page
    assert "rcj1_" not in html(staff, f"/add-device/?token={token.pk}")
    assert "waiting" in html(staff, f"/add-device/?token={token.pk}")


def test_a_wrong_token_form_says_what_is_wrong(staff: Client) -> None:
    answer = staff.post("/add-device/token/", {"name": "x", "max_uses": "none"})

    assert answer.status_code == 400
    assert "max_uses" in answer.content.decode()
    assert JoinToken.objects.count() == 0


def test_how_far_a_device_has_come_is_seen(staff: Client) -> None:
    _, token = tokens.create("x", now=timezone.now())
    make_device("new", join_token=token, secret_confirmed=False)

    def steps() -> list[str]:
        return re.findall(r'<li class="(done|open)">', html(staff, f"/add-device/?token={token.pk}"))

    assert steps() == ["done", "open", "open"]
    Device.objects.update(secret_confirmed=True)
    assert steps() == ["done", "done", "done"]
    Device.objects.update(online=False)
    assert steps() == ["done", "done", "open"]


# --- settings -------------------------------------------------------------------------------------------------


def heartbeat(**fields: str) -> dict[str, str]:
    values = {"interval": "60", "timeout": "300", "max_missed": "3", "reconnect_grace": "5"}
    named = {f"heartbeat.{name}": value for name, value in {**values, **fields}.items()}
    return {"section": "heartbeat", "version": "0", **named}


def test_a_section_is_saved_with_its_history(staff: Client) -> None:
    assert "was saved" in said(staff.post("/settings/", heartbeat(interval="30"), follow=True))

    assert services.section("heartbeat").values["interval"] == 30
    assert ConfigChange.objects.get().new == {"interval": 30}
    page = html(staff, "/settings/")
    assert "interval = 30" in page
    assert "before: interval = 60" in page


def test_a_wrong_or_stale_section_is_not_saved(staff: Client) -> None:
    wrong = staff.post("/settings/", heartbeat(interval="never", timeout="2"))
    assert wrong.status_code == 400
    assert "must be a whole number" in wrong.content.decode()
    assert 'value="never"' in wrong.content.decode()
    staff.post("/settings/", heartbeat(interval="30"))
    assert staff.post("/settings/", heartbeat(interval="40")).status_code == 409
    assert staff.post("/settings/", {"section": "nothing"}).status_code == 400
    assert services.section("heartbeat").values["interval"] == 30


def test_keys_are_made_shown_once_and_revoked(staff: Client) -> None:
    page = staff.post("/settings/keys/", {"name": "script", "scopes": ["read", "submit"]}).content.decode()
    shown = re.search(r'<code id="new-key">(\w+)</code>', page)
    key = ApiKey.objects.get()

    assert shown
    assert keys.verify(shown[1], now=timezone.now()).key_id == str(key.pk)
    assert shown[1] not in html(staff, "/settings/")
    assert "opens nothing any more" in said(press(staff, f"/settings/keys/{key.pk}/revoke/"))
    assert "no such key" in said(press(staff, f"/settings/keys/{NOWHERE}/revoke/"))
    wrong = staff.post("/settings/keys/", {"name": "x"})
    assert wrong.status_code == 400
    assert "This field is required" in wrong.content.decode()


def test_a_token_says_what_it_does(staff: Client) -> None:
    plain, narrow = tokens.Preset(), tokens.Preset("storage", ("disks",), ("echo", "sleep"), 1)
    tokens.create("plain", now=timezone.now(), preset=plain)
    tokens.create("narrow", now=timezone.now(), preset=narrow, max_uses=1)

    does = re.findall(r'<td data-label="What it does">(.*?)</td>', html(staff, "/settings/"))

    assert does == [
        "lets a device join as storage, tagged disks, for echo, sleep only, with 1 slot at most",
        "lets devices join",
    ]


def test_tokens_are_revoked(staff: Client) -> None:
    _, token = tokens.create("x", now=timezone.now())

    assert "admits no device any more" in said(press(staff, f"/settings/tokens/{token.pk}/revoke/"))
    assert "no such token" in said(press(staff, "/settings/tokens/nothing/revoke/"))


# --- activity ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "said_of_it"),
    [
        ({"verified": True}, "nuc has stored its own secret"),
        ({"cordoned": True, "cordon_reason": "dusty"}, "nuc was cordoned: dusty"),
        ({"cordon_reason": "new disk"}, "nuc stays out of service: new disk"),
        ({"cordon_reason": "new disk", "draining": True}, "nuc is drained: new disk"),
        ({"draining": False}, "nuc is no longer drained, and stays cordoned"),
        ({"cordoned": False, "cordon_reason": "", "draining": False}, "nuc is back in service"),
        ({}, "nuc is drained until another time"),
        ({"paused_reason": None}, "nuc takes tasks again"),
        ({"of_a_later_version": 1}, "nuc changed"),
    ],
)
def test_what_changed_about_a_device_is_said(facts: dict[str, Any], said_of_it: str) -> None:
    event = {
        "type": "device.changed",
        "timestamp": START.isoformat(),
        "data": {"device_id": "nuc", **facts},
    }

    assert words.tale(json.dumps(event)).text == said_of_it


# --- one task -------------------------------------------------------------------------------------------------


def lead(client: Client, task: Task) -> str:
    found = re.search(r'<p class="lead" role="status">(.*?)</p>', html(client, f"/tasks/{task.pk}/"))
    assert found
    return unescape(re.sub("<[^>]+>", "", found[1]))


def test_a_task_stands_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    device = make_device("nuc")
    now = db.now()
    monkeypatch.setattr(db, "now", lambda: now)  # no midnight in between
    client = visitor()

    assert lead(client, make_task(ready_at=now)) == f"Queued since {now:%H:%M:%S} UTC: {STARTS}"
    later = make_task(status="pending", ready_at=now + timedelta(seconds=9), failures=1, max_retries=3)
    again = f"{now + timedelta(seconds=9):%H:%M:%S} UTC"
    assert lead(client, later).endswith(f"{again}: try 2 of 4")
    assert lead(client, make_task(status="assigned", device_id="nuc")).startswith("Assigned: offered to nuc")
    running = make_task(
        status="running",
        device_id="nuc",
        started_at=now - timedelta(days=3),
        progress=40,
        progress_message="half",
    )
    began = f"{now - timedelta(days=3):%Y-%m-%d %H:%M:%S} UTC"
    assert lead(client, running) == f"Running on nuc since {began}, 40 %: half"
    assert lead(client, make_finished_task(device, execution_s=1.23)) == "Succeeded on nuc after 1.2 s"
    failed = make_finished_task(device, status="failed", error_message="no such file\nat all")
    assert lead(client, failed) == "Failed on nuc after 0.05 s: no such file"
    cancelled = make_task(status="cancelled", cancel_requested_by="user:ann")
    assert lead(client, cancelled) == "Cancelled by user:ann"
    asked = make_task(status="running", device_id="nuc", cancel_requested_at=now)
    assert lead(client, asked).startswith("Being cancelled: nuc")


def test_what_goes_on_is_a_time_that_the_page_can_have_grow() -> None:
    now = db.now()
    client = visitor()
    make_device("nuc")
    queued = html(client, f"/tasks/{make_task(ready_at=now).pk}/")
    running = make_task(status="running", device_id="nuc", started_at=now)
    pending = make_task(status="pending", ready_at=now + timedelta(minutes=1))

    iso = now.isoformat(timespec="seconds")
    assert re.search(
        rf'Queued <span aria-live="off"><time datetime="{re.escape(iso)}"[^>]* data-since>', queued
    )
    assert " data-since>" in html(client, f"/tasks/{running.pk}/")
    assert " data-due>" in html(client, f"/tasks/{pending.pk}/")
    assert re.search(r"the oldest <time [^>]* data-since>since", html(client, "/"))


def test_where_a_task_can_run_says_where_it_does(staff: Client) -> None:
    def where(task: Task) -> str:
        found = re.search(r'id="explain".*?</section>', html(staff, f"/tasks/{task.pk}/"), re.DOTALL)
        assert found
        return re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", found[0]))

    make_device("nuc")
    make_device("pi")

    assert "fit, 2 could take it now. 2 devices fit with room" in where(make_task())
    running = where(make_task(status="running", device_id="nuc"))
    assert "nuc runs it. 2 of 2 devices fit, 2 could take another like it now." in running
    assert "starts in a moment" not in running
    assert running.count("runs it") == 2  # once more in its row
    assert "pi has the offer." in where(make_task(status="assigned", device_id="pi"))
    assert "perhaps held" not in where(make_task(status="pending"))


def test_another_attempt_is_marked_in_what_was_printed() -> None:
    def page(*attempts: int) -> str:
        task = make_task()
        for number, attempt in enumerate(attempts):
            OutputChunk.objects.create(
                task=task,
                offset=number,
                attempt=attempt,
                number=number,
                stream="stdout",
                text=str(number),
                at=START,
            )
        found = re.search(r'<pre class="output".*?</pre>', html(visitor(), f"/tasks/{task.pk}/"), re.DOTALL)
        assert found
        return re.sub("<[^>]+>", "|", found[0]).replace("||", "|").strip("|")

    assert page(1, 1) == "0|1"
    assert page(1, 1, 2, 2, 4) == "0|1|Attempt 2|2|3|Attempt 4|4"
    assert page(2, 2) == "Attempt 2|0|1"


def test_secrets_of_a_payload_are_for_those_who_may_run_it() -> None:
    task = make_task(task_type="command", payload='{"command":"env","env":{"TOKEN":"hush"}}')

    assert "hush" not in html(visitor(), f"/tasks/{task.pk}/")
    assert "hush" in html(visitor(staff=True), f"/tasks/{task.pk}/")


def test_a_task_can_be_submitted_again_by_what_the_page_shows(staff: Client) -> None:
    task = make_task(
        priority="high", requirements={"gpu_required": True, "timeout_seconds": 300, "max_retries": 0}
    )
    page = html(staff, f"/tasks/{task.pk}/")
    curl = re.search(r'<code id="curl">(.*?)</code>', page, re.DOTALL)
    assert curl
    words = shlex.split(unescape(curl[1]))

    assert json.loads(words[words.index("-d") + 1]) == {
        "task_type": "echo",
        "payload": {"message": "Hello"},
        "priority": "high",
        "requirements": {"gpu_required": True},
    }
    python = re.search(r'<code id="python">(.*?)</code>', page, re.DOTALL)
    assert python
    compile(unescape(python[1]), "python", "exec")


def test_what_it_printed_and_its_result_are_there_without_a_script() -> None:
    task = make_finished_task(make_device(), result='{"lines": [1, {"deep": true}]}')
    for number in range(3):
        OutputChunk.objects.create(
            task=task,
            offset=number * 10,
            attempt=1,
            number=number,
            stream="stdout",
            text=f"line {number}\n",
            at=START,
        )

    page = html(visitor(), f"/tasks/{task.pk}/")

    assert all(f"line {number}" in page for number in range(3))
    assert "object of 1" in page
    assert "list of 2" in page


def test_the_list_walks_to_older_tasks_and_back() -> None:
    for _ in range(60):
        make_task()
    client = visitor()
    first = html(client, "/tasks/?status=queued")
    older = re.search(r'href="(\?[^"]*cursor=[^"]+)"', first)
    assert older
    second = html(client, "/tasks/" + unescape(older[1]))

    rows = [set(re.findall(r'href="/tasks/([0-9a-f-]{36})/"', page)) for page in (first, second)]
    assert (len(rows[0]), len(rows[1]), rows[0] & rows[1]) == (50, 10, set())
    assert "status=queued" in unescape(older[1])


# --- what strangers and attackers send ------------------------------------------------------------------------


def test_the_form_that_submits_counts_as_the_call_it_stands_for(settings: Any) -> None:
    settings.RATE_LIMITS = "2/minute"
    throttling.forget()
    client = visitor()

    statuses = [client.post("/submit/", filled()).status_code for _ in range(3)]
    refused = client.post("/submit/", filled())

    assert statuses == [302, 302, 429]
    assert refused["Content-Type"].startswith("text/html")
    assert "Retry-After" in refused
    assert client.get("/submit/").status_code == 200
    throttling.forget()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("payload.payload", '{"a": "\\ud800"}'),
        ("payload.payload", '{"a": 1e999}'),
        ("payload.payload", "[" * 5000),
        ("min_memory_gb", "1e999"),
        ("min_cpu_cores", "9" * 5000),
    ],
)
def test_values_that_are_none_are_refused(name: str, text: str) -> None:
    answer = visitor().post("/submit/", filled(**{name: text}))

    assert answer.status_code == 400
    assert Task.objects.count() == 0


READ = (
    "/devices/?q=%00",
    "/devices/?tags=%00",
    "/tasks/?task_type=%00",
    "/tasks/?cursor=%00",
    "/add-device/?token=%00",
)


@pytest.mark.parametrize("path", READ)
def test_nul_is_refused_by_name(staff: Client, path: str) -> None:
    assert "NUL" in html(staff, path, 400)


@pytest.mark.parametrize("path", [*BUTTONS, "/submit/", "/submit/matches/"])
def test_nul_is_refused_in_every_form(staff: Client, path: str) -> None:
    make_device("nuc")
    fields = {**BUTTONS.get(path, filled()), "reason": "\0", "name": "\0", "once": "\0"}

    assert staff.post(path, fields).status_code == 400


@pytest.mark.parametrize("number", ["--5", "5" * 5000, "\uff15", " ", "1e3"])
def test_numbers_that_are_none_are_refused(staff: Client, number: str) -> None:
    make_device("nuc")

    assert staff.post("/settings/", heartbeat(interval=number)).status_code == 400
    assert "hours: must be" in said(press(staff, "/devices/nuc/drain/", hours=number))
    assert staff.post("/settings/", {**heartbeat(), "version": number}).status_code in (302, 409)


@pytest.mark.parametrize("target", ["abc", "0", "?x", "#a", "\\\\evil.example", "/\\evil.example", ""])
def test_a_button_that_was_told_nonsense_leads_to_the_overview(staff: Client, target: str) -> None:
    make_device("nuc")
    answer = staff.post("/devices/nuc/cordon/", {"next": target})

    assert (answer.status_code, answer["Location"]) == (302, "/")


def test_a_form_without_a_boundary_is_malformed() -> None:
    answer = visitor(csrf=True).post("/submit/", b"x", content_type="multipart/form-data")

    assert answer.status_code in (400, 403)
    answer = visitor().post("/submit/", b"x", content_type="multipart/form-data")
    assert answer.status_code == 400


def test_a_form_that_is_too_large_gets_a_page() -> None:
    answer = visitor().post("/submit/", filled(**{"payload.payload": "x" * 600_000}))

    assert answer.status_code == 413
    assert answer["Content-Type"].startswith("text/html")


def test_a_form_older_than_the_session_gets_a_page_that_says_so() -> None:
    answer = visitor(staff=True, csrf=True).post("/submit/", filled())

    assert answer.status_code == 403
    assert "older than your sign-in" in answer.content.decode()


def test_a_session_that_ended_loses_nothing_and_redraws_nothing(settings: Any) -> None:
    settings.AUTH = "all"
    drawn = visitor().post("/submit/matches/", filled(), headers={"HX-Request": "true"})
    sent = visitor().post("/submit/", filled())

    assert (drawn.status_code, drawn["Content-Type"]) == (401, "text/plain; charset=utf-8")
    assert sent.status_code == 401
    assert "session has ended" in sent.content.decode()


def test_a_payload_cannot_blow_up_its_page() -> None:
    deep: Any = [0] * 100_000
    for _ in range(60):
        deep = [deep]
    task = make_task(payload=json.dumps({"a": deep}, separators=(",", ":")))
    done = make_finished_task(make_device(), result=json.dumps([[[0] * 200] * 5] * 40, separators=(",", ":")))

    assert len(html(visitor(), f"/tasks/{task.pk}/")) < 300_000
    assert len(html(visitor(), f"/tasks/{done.pk}/")) < 3_000_000


def test_a_device_with_many_types_leaves_the_form_usable() -> None:
    make_device("boastful", task_types=[f"{number:03}{'x' * 97}" for number in range(150)])
    page = html(visitor(), "/submit/")

    assert page.count('href="?type=') <= len(BUILTIN_TYPES) + 40
    assert len(page) < 40_000
    assert len(html(visitor(), "/devices/boastful/")) < 60_000


def test_output_is_read_on_from_any_place_and_is_no_counted_call(settings: Any) -> None:
    settings.RATE_LIMITS = "1/minute"
    throttling.forget()
    task = make_task(status="running")
    for number in range(3):
        piece = {"attempt": 1, "number": number, "stream": "stdout", "text": "0123456789"}
        OutputChunk.objects.create(task=task, offset=number * 10, at=START, **piece)
    client = visitor()

    answers = [client.get(f"/tasks/{task.pk}/output/?offset={offset}").json() for offset in (0, 10, 30)]

    assert [len(answer["chunks"]) for answer in answers] == [3, 2, 0]
    assert [answer["next_offset"] for answer in answers] == [30, 30, 30]
    assert not answers[0]["is_complete"]
    for wrong in ("-1", "x", "9" * 30):
        assert client.get(f"/tasks/{task.pk}/output/?offset={wrong}").status_code == 400
    assert client.get(f"/tasks/{NOWHERE}/output/").status_code == 404
    throttling.forget()
