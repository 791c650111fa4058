"""Events as they are sent, and the places clients come back to."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from retire_cluster.events.frames import Cursor, Event, Wanted, frame, unpack, websocket_text

AT = datetime(2026, 5, 4, 3, 2, 1, 987654, UTC)


@given(st.from_regex(r"[0-9a-f]{12}", fullmatch=True), st.integers(0, 2**59))
def test_a_cursor_comes_back_as_it_was_given(stream: str, seq: int) -> None:
    cursor = Cursor(stream, seq)
    assert Cursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize(
    "text", ["", "-", "7", "-7", "abc-", "abc--7", "a b-7", "abc-x", "abc-9" + 18 * "9", "ä-7"]
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a cursor"):
        Cursor.parse(text)


@given(st.text())
def test_no_text_makes_the_parser_fail_in_another_way(text: str) -> None:
    try:
        parsed = Cursor.parse(text)
    except ValueError as error:
        assert "is not a cursor" in str(error)  # noqa: PT017 what other errors would say is not known
    else:
        assert parsed.seq >= 0


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none() | st.lists(st.text())))
def test_a_frame_is_json_whatever_its_data(data: dict[str, object]) -> None:
    read = json.loads(frame("task.running", Cursor("abc", 7), AT, data))
    assert read == {
        "type": "task.running",
        "seq": 7,
        "cursor": "abc-7",
        "timestamp": "2026-05-04T03:02:01.987Z",
        "data": data,
    }


def test_a_row_of_several_events_is_numbered_on() -> None:
    stored = json.dumps([["task.submitted", {"task_ids": ["a", "b"]}], ["device.online", {"device_id": "d"}]])
    first, second = unpack("abc", 41, stored, AT)
    assert (first.seq, first.topic, first.task_ids) == (41, "task", frozenset({"a", "b"}))
    assert (second.seq, second.topic, second.task_ids) == (42, "device", frozenset())
    assert json.loads(second.text)["cursor"] == "abc-42"


def event(topic: str, *task_ids: str) -> Event:
    return Event(1, f"{topic}.any", frozenset(task_ids), "")


@pytest.mark.parametrize(
    ("wanted", "included"),
    [
        (Wanted(), [True, True, True]),
        (Wanted(frozenset({"task"})), [True, True, False]),
        (Wanted(task_id="a"), [True, False, False]),
        (Wanted(frozenset({"device"}), task_id="a"), [False, False, False]),
    ],
)
def test_a_client_gets_what_it_asked_for(wanted: Wanted, included: list[bool]) -> None:
    found = [wanted.includes(item) for item in (event("task", "a", "b"), event("task", "b"), event("device"))]
    assert found == included


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_frame_made_for_everybody_is_what_a_client_reads(size: int) -> None:
    reader = StreamReader()
    reader.feed_data(websocket_text("x" * size))
    parsing = Frame.parse(reader.read_exact, mask=False)
    with pytest.raises(StopIteration) as end:
        next(parsing)
    frame = end.value.value
    assert (frame.opcode, frame.fin, bytes(frame.data)) == (Opcode.TEXT, True, b"x" * size)
