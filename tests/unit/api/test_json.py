"""JSON in and out: what is refused, what is embedded, what comes back equal."""

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retire_cluster.api import envelope
from retire_cluster.api.envelope import RawJSON
from retire_cluster.api.errors import ApiError
from retire_cluster.api.pagination import decode_cursor, encode_cursor
from retire_cluster.api.parsers import loads

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(TEXT, children, max_size=4),
    max_leaves=20,
)


def _outcome(work: Callable[[], Any]) -> tuple[Any, str]:
    """What the work returns, or the field its error names."""
    try:
        return work(), ""
    except ApiError as error:
        return None, str(error.failure.details["field"])


@given(VALUES)
def test_what_can_be_kept_is_read_as_it_was_written(value: Any) -> None:
    assert loads(json.dumps({"x": value}).encode()) == {"x": value}
    assert loads(json.dumps({"x": value}, ensure_ascii=False).encode()) == {"x": value}


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_named_error(raw: bytes) -> None:
    value, failure = _outcome(lambda: loads(raw))

    assert failure == "body" or json.loads(envelope.dumps(value)) == value


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"a": 1, "a": 2}', "'a' appears twice"),
        (b'{"x": {"k": 1, "k": 1}}', "'k' appears twice"),
        (b"[NaN]", "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b"[1e999]", "finite"),
        (b'["\\u0000"]', "NUL"),
        (b'["\\udc00"]', "surrogate"),
        (b'["\xff"]', "UTF-8"),
        (b"[" * 65 + b"]" * 65, "64 levels"),
        (b"[" * 200_000, "64 levels"),
        ("{}".encode("utf-16"), "UTF-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"{'a': 1}", "double quotes"),
        (b"[" + b"9" * 5000 + b"]", "more than 4300 digits"),
    ],
)
def test_the_error_says_what_is_wrong(raw: bytes, reason: str) -> None:
    with pytest.raises(ApiError, match=reason):
        loads(raw)


def test_a_late_repetition_among_many_keys_is_found_in_one_pass() -> None:
    names = ",".join(f'"k{number}":0' for number in range(300_000))

    with pytest.raises(ApiError, match="'k299999' appears twice"):
        loads(f'{{{names},"k299999":0}}'.encode())


def test_64_levels_are_allowed() -> None:
    assert loads(b"[" * 64 + b"]" * 64)


def test_an_empty_body_is_an_empty_object() -> None:
    assert loads(b"") == loads(b" \n") == {}


def test_raw_json_is_embedded_as_it_is_wherever_it_stands() -> None:
    raw = RawJSON('{"n":1.0e2,  "z":[1]}')

    assert envelope.dumps({"a": raw, "b": [raw, None]}) == (
        '{"a":{"n":1.0e2,  "z":[1]},"b":[{"n":1.0e2,  "z":[1]},null]}'
    )


@given(TEXT, TEXT)
def test_no_text_can_pose_as_a_place_for_raw_json(text: str, inside: str) -> None:
    value = {"text": text + ":0", "raw": RawJSON(json.dumps(inside))}

    assert json.loads(envelope.dumps(value)) == {"text": text + ":0", "raw": inside}


def test_times_and_ids_have_one_form() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 60, tzinfo=timezone(timedelta(hours=2)))
    number = uuid.UUID(int=1)

    assert envelope.dumps([moment, number]) == (
        '["2026-01-02T01:04:05.000060Z","00000000-0000-0000-0000-000000000001"]'
    )


def test_an_object_without_a_json_form_is_an_error() -> None:
    with pytest.raises(TypeError, match="object has no JSON form"):
        envelope.dumps(object())


@given(st.datetimes(datetime(1970, 1, 1), datetime(2999, 1, 1), timezones=st.just(UTC)), st.uuids())
def test_a_cursor_names_exactly_its_row(moment: datetime, row_id: uuid.UUID) -> None:
    assert decode_cursor(encode_cursor(moment, row_id)) == (moment, row_id)


@given(st.text(max_size=60))
def test_any_other_text_is_a_position_or_a_named_error(text: str) -> None:
    position, failure = _outcome(lambda: decode_cursor(text))

    assert failure == "cursor" or decode_cursor(encode_cursor(*position)) == position
