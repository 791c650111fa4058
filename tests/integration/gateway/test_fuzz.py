"""Random damage to valid frames: decoding refuses it or the gateway deals with it, and every promise holds."""

import json
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices.models import Device
from retire_cluster.gateway import budget
from retire_cluster.gateway.inputs import Opened, Received
from retire_cluster.protocol import codec
from retire_cluster.protocol import messages as wire
from retire_cluster.protocol.states import HeldState, Outcome
from tasks.models import Attempt, Task
from tests.integration.gateway.cluster import Cluster, FakeLink, sent, submit
from tests.integration.gateway.test_hostile import check_promises

pytestmark = pytest.mark.django_db(transaction=True)

ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(
            None,
            True,
            -1,
            0,
            2**31,
            2**53 + 1,
            2**63,
            2**64,
            -(2**63),
            1.5,
            -0.0,
            1e308,
            float("inf"),
            float("nan"),
        ),
        *("", "0" * 32, "\x00", "\ud800", "\u202e", "x" * 5000, "running", "success", "heartbeat", "result"),
        *([], {}, [[]], [{}], {"type": "result"}, {"": None}, ["0" * 32] * 3, [None]),
    ]
)


@st.composite
def damaged(draw: st.DrawFn, value: Any) -> Any:
    """The parsed frame with one value somewhere in it dropped, doubled or replaced."""
    if not isinstance(value, (list, dict)) or not value or draw(st.integers(0, 9)) == 0:
        return draw(ODD)
    key = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
    changed: Any = dict(value) if isinstance(value, dict) else list(value)
    match draw(st.sampled_from(["deeper", "deeper", "deeper", "drop", "double"])):
        case "deeper":
            changed[key] = draw(damaged(value[key]))
        case "drop":
            del changed[key]
        case "double" if isinstance(changed, list):
            changed.insert(key, changed[key])
        case "double":
            changed[draw(st.text(max_size=5))] = changed[key]
    return changed


@st.composite
def garbled(draw: st.DrawFn, text: str) -> str:
    """The text of a frame with a piece of it cut out, repeated or overwritten."""
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 40)))
    put = draw(st.one_of(st.just(""), st.text(max_size=5), st.just(text[start:end] * 2), st.just("[" * 2000)))
    return text[:start] + put + text[end:]


def frames(draw: st.DrawFn, original: list[dict[str, Any]]) -> str:
    value: Any = original
    for _ in range(draw(st.integers(0, 3))):
        value = draw(damaged(value))
    text = json.dumps(value)
    return draw(garbled(text)) if draw(st.booleans()) else text


def as_sent(*messages: wire.Message) -> list[dict[str, Any]]:
    (frame,) = codec.encode(messages)
    found: list[dict[str, Any]] = json.loads(frame)
    return found


def everything(attempts: list[str]) -> list[dict[str, Any]]:
    """One of each message an agent may send, about what it holds and what it does not."""
    first, *others = [*attempts, uuid4().hex]
    held = tuple(wire.Held(attempt=attempt, state=HeldState.RUNNING, age_s=1.5) for attempt in attempts)
    return as_sent(
        wire.Accepted(attempts=(first, *others)),
        wire.Heartbeat(metrics=wire.Metrics(cpu_percent=12.5, charging=True), held=held),
        wire.Result(attempt=first, outcome=Outcome.SUCCESS, ran_s=0.5, result_json='{"a": [1.0e2]}'),
        wire.Declined(attempt=others[0], reason="full"),
        wire.Stopped(attempts=tuple(others)),
        wire.LinkStored(link_no=1),
        wire.Ping(nonce="0" * 32),
        wire.Pong(nonce="1" * 32),
        wire.Error(reason="what?", field="[0].type"),
    )


def decode(text: str | bytes) -> list[wire.Message]:
    """The messages of a frame, none if it is refused; nothing but BadFrame is raised."""
    refusal = ""
    try:
        return budget.within_frame(codec.decode_from_agent(text))
    except codec.BadFrame as error:
        refusal = str(error)
    assert 0 < len(refusal) < 1000
    return []


def deal(cluster: Cluster, link: FakeLink, text: str) -> None:
    messages = decode(text)
    before = link.frames_done
    if messages:
        cluster.say(link, *messages)
        assert link.frames_done == before + 1


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster()
    cluster.committer._stopping.set()  # trouble with the database ends the batch: nothing here may cause any
    return cluster


RUNS = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@RUNS
@given(data=st.data())
def test_damaged_frames_of_a_device_change_nothing_they_must_not(
    cluster: Cluster, data: st.DataObject
) -> None:
    device_id = f"device-{uuid4().hex[:12]}"
    link = cluster.join(device_id, slots=3, role="worker", tags=(device_id,))
    other = cluster.join(f"other-{device_id}", slots=1, role="storage", tags=(device_id,))
    mine = submit(3, required_role="worker", required_tags=(device_id,))
    (theirs,) = submit(1, required_role="storage", required_tags=(device_id,))
    cluster.step()
    attempts = [order.attempt for order in sent(link, wire.Assign)]
    (foreign,) = [order.attempt for order in sent(other, wire.Assign)]

    for _ in range(data.draw(st.integers(1, 4))):
        deal(cluster, link, data.draw(st.composite(frames)(everything([*attempts, foreign]))))
    cluster.tick()

    check_promises()
    row = Attempt.objects.get(task=theirs)
    assert (row.id.hex, row.device_id, row.state, row.result) == (
        foreign,
        other_id(device_id),
        "offered",
        None,
    )
    assert {task.device_id for task in Task.objects.filter(id__in=mine)} <= {"", device_id}
    cluster.drop(link, orderly=True)
    cluster.drop(other, orderly=True)
    Task.objects.all().delete()  # what stays behind would only slow the next run down


def other_id(device_id: str) -> str:
    return f"other-{device_id}"


@RUNS
@given(data=st.data())
def test_a_damaged_registration_is_refused_or_makes_a_sound_device(
    cluster: Cluster, data: st.DataObject
) -> None:
    device_id = f"device-{uuid4().hex[:12]}"
    valid = as_sent(cluster.register(device_id, slots=2, secret=None, tags=("a", "b"), link_no=0))
    messages = decode(data.draw(st.composite(frames)(valid)))
    if len(messages) != 1 or not isinstance(messages[0], wire.Register):
        return
    link = FakeLink()
    cluster.step(Opened(link, messages[0]))
    device = Device.objects.filter(id=messages[0].device_id, online=True).first()
    if link.goodbye is not None:
        assert sent(link, wire.Welcome) == []
        return
    assert device is not None
    assert 1 <= device.slots <= 4096
    cluster.step(Received(link, (wire.Heartbeat(),)))
    assert sent(link, wire.HeartbeatAck)
    cluster.drop(link, orderly=True)


@given(
    frame=st.one_of(
        st.text(), st.binary(), st.text(st.sampled_from('[]{}",:0e-\\ntruefals "type'), max_size=200)
    )
)
def test_no_bytes_make_decoding_raise_anything_but_a_bad_frame(frame: str | bytes) -> None:
    assert isinstance(decode(frame), list)


@pytest.mark.parametrize("depth", [10, 500, 900, 990, 1000, 5000, 100_000])
def test_no_depth_makes_decoding_raise_anything_but_a_bad_frame(depth: int) -> None:
    nested, objects = "[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth
    for text in (
        nested,
        f'[{{"type":{nested}}}]',
        f'[{{"type":"result","attempt":{objects}}}]',
        f"[{objects}]",
    ):
        with pytest.raises(codec.BadFrame):
            codec.decode_from_agent(text)
