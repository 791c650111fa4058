"""Agents that lie, replay, exaggerate and flood: refused or neutralised, said in the log, never trusted."""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db.models import Q
from django.test import Client

from clusterconfig import tokens
from devices.models import Device
from retire_cluster import bulk, db, logs
from retire_cluster.gateway.complaints import LINES_A_MINUTE
from retire_cluster.gateway.inputs import Opened, Received
from retire_cluster.protocol import codec, states
from retire_cluster.protocol import messages as wire
from retire_cluster.protocol.states import HeldState, Outcome, Platform
from tasks.models import Attempt, Task
from tests.integration.gateway.cluster import Cluster, FakeLink, sent, status, submit
from tests.integration.gateway.test_removal import join, run_one

pytestmark = pytest.mark.django_db(transaction=True)

EVIL = (
    '\x1b[2J\x1b]0;owned\x07\r\n{"level":"INFO"}\u202egnp.exe\u2066\u200b<script>alert(1)</script>\x85\u2028'
)
LARGEST = wire.Capabilities(
    platform=Platform.LINUX, cpu_count=65_536, memory_total_mb=2**40, storage_total_mb=2**40
)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Whatever a test does to it, the promises hold afterwards."""
    cluster = Cluster()
    cluster.committer._stopping.set()  # a batch that cannot be committed is given up, not tried for ever
    yield cluster
    check_promises()


def check_promises() -> None:
    """One live attempt for a task on a device, none for any other; what has ended has an end."""
    live = Counter(Attempt.objects.filter(~Q(state="ended")).values_list("task_id", flat=True))
    for task in Task.objects.all():
        assert live[task.id] == (task.status in states.LIVE), (task.status, live[task.id])
        assert (task.finished_at is not None) == (task.status in states.TERMINAL)


def say(cluster: Cluster, link: FakeLink, *messages: wire.Message) -> None:
    """A frame that must be dealt with, whatever it says."""
    before = link.frames_done
    cluster.say(link, *messages)
    assert link.frames_done == before + 1


def result(attempt: str, text: str = "1", **more: Any) -> wire.Result:
    return wire.Result(attempt=attempt, outcome=Outcome.SUCCESS, result_json=text, **more)


def held(*attempts: str, state: HeldState = HeldState.RUNNING, age_s: float = 0.0) -> wire.Heartbeat:
    return wire.Heartbeat(held=tuple(wire.Held(attempt=item, state=state, age_s=age_s) for item in attempts))


def verdicts(link: FakeLink) -> list[str]:
    return [ack.verdict for ack in sent(link, wire.ResultAck)]


def ids(count: int) -> tuple[str, ...]:
    return tuple(uuid4().hex for _ in range(count))


def get(path: str) -> Any:
    answer = Client(SERVER_NAME="localhost").get(path)
    assert answer.status_code == 200, (path, answer.status_code, answer.content[:500])
    return answer


def data(path: str) -> Any:
    return json.loads(get(path).content)["data"]


# --- replays --------------------------------------------------------------------------------------------------


def test_everything_said_twice_counts_once(cluster: Cluster) -> None:
    link, _ = join(cluster, "mallory")
    task_id, attempt = run_one(cluster, link)
    accepted = wire.Accepted(attempts=(attempt, attempt))
    say(cluster, link, accepted, held(attempt), held(attempt), accepted)
    version = Task.objects.get(id=task_id).version
    say(cluster, link, accepted, held(attempt))
    assert (status(task_id), Task.objects.get(id=task_id).version) == ("running", version)
    say(cluster, link, result(attempt), result(attempt, '"other"'), result(attempt, '"third"'))
    assert verdicts(link) == ["recorded"] * 3
    assert (status(task_id), Attempt.objects.get(task=task_id).result) == ("success", "1")


def test_after_the_end_nothing_brings_it_back(cluster: Cluster) -> None:
    link, _ = join(cluster, "mallory")
    task_id, attempt = run_one(cluster, link)
    say(cluster, link, result(attempt))
    before = Task.objects.get(id=task_id).version
    say(cluster, link, wire.Accepted(attempts=(attempt,)), held(attempt), wire.Stopped(attempts=(attempt,)))
    say(
        cluster,
        link,
        wire.Declined(attempt=attempt, reason="no"),
        wire.Result(attempt=attempt, outcome=Outcome.FAILED),
    )
    task = Task.objects.get(id=task_id)
    assert (task.status, task.version) == ("success", before)


def test_frames_of_a_replaced_connection_are_void(cluster: Cluster) -> None:
    old, secret = join(cluster, "mallory")
    task_id, attempt = run_one(cluster, old)
    new = cluster.join("mallory", secret=secret, held=held(attempt).held)
    say(cluster, old, held(), result(attempt, '"old"'), wire.Declined(attempt=attempt, reason="no"))
    assert (status(task_id), verdicts(old)) == ("running", [])
    say(cluster, new, result(attempt, '"new"'))
    assert Attempt.objects.get(task=task_id).result == '"new"'


# --- other people's work --------------------------------------------------------------------------------------


def test_a_device_can_say_nothing_about_the_work_of_another(cluster: Cluster) -> None:
    alice, _ = join(cluster, "alice", role="compute")
    task_id, attempt = run_one(cluster, alice, required_role="compute")
    mallory, _ = join(cluster, "mallory")
    before = Task.objects.get(id=task_id).version
    say(
        cluster,
        mallory,
        wire.Accepted(attempts=(attempt,)),
        held(attempt),
        held(attempt, state=HeldState.FINISHED),
        wire.Declined(attempt=attempt, reason="mine"),
        wire.Stopped(attempts=(attempt,)),
        result(attempt, '"forged"'),
    )
    task, row = Task.objects.get(id=task_id), Attempt.objects.get(task=task_id)
    assert (task.status, task.version, row.device_id, row.result) == ("running", before, "alice", None)
    assert verdicts(mallory) == ["unknown"]
    assert [stop.attempts for stop in sent(mallory, wire.Stop)] == [(attempt,)]
    assert sent(alice, wire.Stop) == []


def test_a_device_cannot_take_what_was_never_offered_to_it(cluster: Cluster) -> None:
    mallory, _ = join(cluster, "mallory")
    (task_id,) = submit(required_role="storage")
    cluster.step()
    say(cluster, mallory, wire.Accepted(attempts=(task_id.hex, *ids(10))), held(task_id.hex))
    say(cluster, mallory, result(task_id.hex))
    assert (status(task_id), Attempt.objects.count(), verdicts(mallory)) == ("queued", 0, ["unknown"])


def test_an_acceptance_of_an_earlier_session_s_offer_does_not_count(cluster: Cluster) -> None:
    link, secret = join(cluster, "mallory")
    (task_id,) = submit()
    cluster.step()
    (order,) = sent(link, wire.Assign)
    again = cluster.join("mallory", secret=secret)  # holds nothing: the offer is returned
    say(cluster, again, wire.Accepted(attempts=(order.attempt,)))
    attempts = Attempt.objects.filter(task=task_id).order_by("no").values_list("outcome", "state")
    assert list(attempts) == [("returned", "ended"), ("", "offered")]


# --- masses ---------------------------------------------------------------------------------------------------


def test_results_for_unknown_attempts_in_masses_are_answered_and_fill_no_log(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    link, _ = join(cluster, "mallory")
    for _ in range(3):
        say(cluster, link, *(result(attempt) for attempt in ids(1000)))
    assert verdicts(link) == ["unknown"] * 3000
    assert Attempt.objects.count() == 0
    lines = [record.getMessage() for record in caplog.records if "not its own" in record.getMessage()]
    assert len(lines) == LINES_A_MINUTE
    assert "no more about mallory for a minute" in caplog.text


def test_errors_in_masses_fill_no_log(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    link, _ = join(cluster, "mallory")
    say(cluster, link, *[wire.Error(reason="x" * 500)] * 4000)
    assert len(caplog.records) < 2 * LINES_A_MINUTE


def test_a_huge_held_list_is_told_to_stop_and_costs_nobody_anything(cluster: Cluster) -> None:
    link, _ = join(cluster, "mallory")
    task_id, attempt = run_one(cluster, link)
    say(cluster, link, held(attempt, *ids(4095)))
    assert len(sent(link, wire.Stop)) == 4095
    assert status(task_id) == "running"


@pytest.mark.parametrize("count", [4096, 40_960])
def test_more_ids_than_a_statement_takes_are_looked_up_in_parts(cluster: Cluster, count: int) -> None:
    link, _ = join(cluster, "mallory")
    task_id, attempt = run_one(cluster, link)
    frames = [(wire.Stopped(attempts=ids(4096)),) for _ in range(count // 4096)]
    cluster.step(*(Received(link, frame) for frame in frames), Received(link, (result(attempt),)))
    assert link.frames_done == len(frames) + 2  # the acceptance was the first
    assert status(task_id) == "success"


def test_rows_looked_up_in_parts_are_the_same_rows(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    submit(7)
    found = list(Task.objects.values_list("id", flat=True))
    whole = (
        bulk.select_rows(Task, ("id", "status"), {"id": found}, lock="wait") if not db.is_sqlite() else None
    )
    monkeypatch.setattr(bulk, "MAX_VALUES", 2)
    parts = bulk.select_rows(Task, ("id", "status"), {"id": [*found, uuid4()]}, also="status = 'queued'")
    assert [row[0] for row in parts] == sorted(found)
    assert whole is None or [row[0] for row in whole] == sorted(found)


# --- absurd claims --------------------------------------------------------------------------------------------

VALID: dict[str, Any] = {
    "type": "register",
    "protocol": 1,
    "device_id": "mallory",
    "run_id": "0" * 32,
    "agent_version": "1",
    "capabilities": {"platform": "linux"},
}


@pytest.mark.parametrize(
    ("where", "text"),
    [
        *(("cpu_count", value) for value in ("0", "-1", "65537", "NaN", "1e999", '"8"', "1.5", "true", "[]")),
        *(
            ("memory_total_mb", value)
            for value in ("-1", "9223372036854775808", "Infinity", "1e30", '"much"')
        ),
        *(("storage_total_mb", value) for value in ("-5", "1" + "0" * 5000)),
        *(("has_gpu", value) for value in ("1", '"yes"', "{}")),
        *(("hostname", value) for value in ("7", '"\\u0000"', '"\\ud800"', f'"{"x" * 256}"')),
        ("gpu_names", json.dumps(["x"] * 17)),
        ("unknown", json.dumps({str(number): "x" for number in range(33)})),
        ("platform", '"amiga"'),
    ],
)
def test_a_capability_that_cannot_be_is_refused_with_its_name(where: str, text: str) -> None:
    frame = json.dumps([VALID]).replace('"platform": "linux"', f'"platform": "linux", "{where}": {text}')
    with pytest.raises(codec.BadFrame) as refused:
        codec.decode_from_agent(frame)
    assert where in str(refused.value) or "not JSON" in str(refused.value)


@pytest.mark.parametrize("slots", ["0", "-1", "4097", "null", '"4"', "NaN", "2.0"])
def test_slots_that_cannot_be_are_refused(slots: str) -> None:
    frame = json.dumps([VALID]).replace('"protocol": 1', f'"protocol": 1, "slots": {slots}')
    with pytest.raises(codec.BadFrame):
        codec.decode_from_agent(frame)


def test_ten_devices_that_claim_the_most_break_no_sum_and_no_page(cluster: Cluster) -> None:
    for number in range(10):
        link = cluster.join(f"giant-{number}", slots=4096, capabilities=LARGEST)
        metrics = wire.Metrics(memory_available_mb=2**40, uptime_s=10**9, load_1m=100_000, temperature_c=300)
        say(cluster, link, wire.Heartbeat(metrics=metrics))
    total = data("/api/v1/cluster/status")["cluster_stats"]["total_resources"]
    assert total == {"cpu_cores": 655_360, "memory_gb": 10 * 2**30, "storage_gb": 10 * 2**30}
    assert data("/api/v1/cluster/metrics")["resources"]["slots_total"] == 40_960
    assert data("/api/v1/devices/summary")["resource_totals"]["memory_gb"] == 10 * 2**30
    for page in ("/", "/api/v1/devices", "/api/v1/devices/giant-1", "/api/v1/tasks/statistics", "/metrics"):
        get(page)
    placed = submit(
        40, min_memory_gb=1, min_cpu_cores=1000
    )  # four for each: they take as many slots as cores
    cluster.step()
    assert {status(task_id) for task_id in placed} == {"assigned"}


def test_the_token_caps_the_slots_a_device_may_claim(cluster: Cluster) -> None:
    preset = tokens.Preset(max_slots=3)
    token, _ = tokens.create("small", now=db.now(), preset=preset)
    link = cluster.join("greedy", slots=4096, join_token=token)
    submit(10)
    cluster.step()
    cluster.step()
    assert (Device.objects.get(id="greedy").slots, len(sent(link, wire.Assign))) == (3, 3)


# --- clocks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("years", [-10, 10])
def test_a_device_s_idea_of_time_decides_nothing(cluster: Cluster, years: int) -> None:
    """Ages cannot be negative on the wire; a clock that is behind shows as zero."""
    seconds = float(max(0, years) * 365 * 86_400)
    link, _ = join(cluster, "mallory")
    task_id, attempt = run_one(cluster, link)
    say(cluster, link, held(attempt, age_s=seconds))
    cluster.tick()
    cluster.tick()
    assert (status(task_id), sent(link, wire.Cancel)) == ("running", [])
    say(cluster, link, result(attempt, ran_s=seconds))
    task = Task.objects.get(id=task_id)
    assert task.execution_s is not None
    assert 0 <= task.execution_s < 60
    assert task.started_at is not None
    assert task.finished_at is not None
    assert task.assigned_at is not None
    assert task.assigned_at <= task.started_at <= task.finished_at


def test_a_negative_age_is_no_frame() -> None:
    text = json.dumps(
        [{"type": "heartbeat", "held": [{"attempt": "0" * 32, "state": "running", "age_s": -1}]}]
    )
    with pytest.raises(codec.BadFrame, match="age_s"):
        codec.decode_from_agent(text)


# --- results nobody can store ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "{", '{"a":1}}', "NaN", "[Infinity]", '{"a":-1e999}', '"\\u0000"', '["\\ud800"]'),
        *('{"\\udc00":1}', "[" * 65 + "]" * 65, "[" * 100_000, '{"a":' * 5000 + "1" + "}" * 5000),
        *("1" * 5000, "'single'", "\ufeff1", "undefined"),
    ],
    ids=lambda text: text[:12] or "empty",
)
def test_a_result_no_database_can_keep_fails_its_task_and_no_other(cluster: Cluster, text: str) -> None:
    link, _ = join(cluster, "mallory")
    bad_id, bad = run_one(cluster, link)
    good_id, good = run_one(cluster, link)
    say(cluster, link, result(bad, text), result(good, '{"fine": 1.0e2}'))
    assert (status(bad_id), status(good_id)) == ("failed", "success")
    assert Attempt.objects.get(task=bad_id).error_code == "RESULT_UNSTORABLE"
    assert data(f"/api/v1/tasks/{bad_id}/result")["result_data"] is None
    assert data(f"/api/v1/tasks/{good_id}/result")["result_data"] == {"fine": 100.0}


# --- texts ----------------------------------------------------------------------------------------------------


def decoded(*messages: wire.Message) -> list[wire.Message]:
    """As they arrive: through the bytes."""
    (frame,) = codec.encode(messages)
    return codec.decode_from_agent(frame)


def hostile_register(cluster: Cluster) -> wire.Register:
    seen = wire.Capabilities(
        platform=Platform.LINUX,
        hostname=EVIL,
        cpu_model=EVIL,
        gpu_names=(EVIL,),
        os_version=EVIL,
        unknown={"has_gpu": EVIL, EVIL: "x"},
    )
    register = cluster.register(
        "mallory", slots=2, secret=None, capabilities=seen, agent_version=EVIL, task_types=("echo", EVIL[:90])
    )
    (arrived,) = decoded(register)
    assert isinstance(arrived, wire.Register)
    return arrived


def is_harmless(text: str) -> bool:
    return text.isprintable() or all(part.isprintable() for part in text.split("\ufffd"))


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from (key, *texts(item))
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def test_what_a_device_says_of_itself_is_stored_without_what_drives_terminals(cluster: Cluster) -> None:
    link = FakeLink()
    cluster.step(Opened(link, hostile_register(cluster)))
    assert link.goodbye is None
    found = [*texts(data("/api/v1/devices/mallory")), *texts(data("/api/v1/tasks/types"))]
    assert [text for text in found if not is_harmless(text)] == []
    assert any("owned" in text for text in found)
    assert set(Device.objects.get(id="mallory").capabilities["unknown"]) == {"has_gpu"}


def test_its_reasons_are_stored_and_shown_so_as_well(cluster: Cluster) -> None:
    link, _ = join(cluster, "mallory")
    (task_id,) = submit()
    cluster.step()
    (order,) = sent(link, wire.Assign)
    say(cluster, link, *decoded(wire.Declined(attempt=order.attempt, reason=EVIL)))
    task = data(f"/api/v1/tasks/{task_id}")
    assert [text for text in texts(task) if not is_harmless(text)] == []
    assert "owned" in Attempt.objects.get(task=task_id, outcome="returned").reason


def test_pages_show_it_escaped(cluster: Cluster) -> None:
    cluster.step(Opened(FakeLink(), hostile_register(cluster)))
    page = get("/").content.decode()
    assert "mallory" in page
    assert "<script>alert(1)" not in page


@pytest.mark.parametrize("formatter", [logs.PlainFormatter(), logs.JSONFormatter()])
def test_no_text_of_a_device_forges_a_line_or_drives_the_terminal(
    cluster: Cluster, caplog: pytest.LogCaptureFixture, formatter: logging.Formatter
) -> None:
    link, _ = join(cluster, "mallory")
    say(cluster, link, *decoded(wire.Error(reason=EVIL, field=EVIL[:200])))
    say(cluster, link, wire.Error(reason=EVIL, field=EVIL))  # as if decoding had let it through
    lines = [formatter.format(record) for record in caplog.records if "could not use" in record.getMessage()]
    assert len(lines) == 2
    for line in lines:
        assert is_harmless(line), line


def test_an_exception_with_such_a_text_has_the_lines_python_gave_it() -> None:
    record = logging.makeLogRecord({"name": "x", "levelname": "ERROR", "msg": "failed"})
    error = ValueError(EVIL)
    record.exc_info = (ValueError, error, None)
    first, *rest = logs.PlainFormatter().format(record).split("\n")
    assert is_harmless(first)
    assert all(is_harmless(line) for line in rest)


def test_an_attempt_names_no_uuid_of_another_kind(cluster: Cluster) -> None:
    """Identifiers are 32 lower-case hexadecimal digits: nothing else reaches a statement."""
    for text in ("A" * 32, "0" * 31, "' OR 1=1 --", str(UUID(int=1)), "\uff10" * 32, "0" * 32 + "\n"):
        with pytest.raises(codec.BadFrame):
            codec.decode_from_agent(json.dumps([{"type": "declined", "attempt": text, "reason": ""}]))
