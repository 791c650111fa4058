"""Frames: every message survives the way there, and nothing a stranger sends raises anything but BadFrame."""

import dataclasses
import types
from enum import StrEnum
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retire_cluster.protocol import codec, jsontext, messages
from retire_cluster.protocol.schema import Length, OneLine, Pattern, Range
from retire_cluster.protocol.text import one_line

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
WAYS = {
    "agent": (messages.FROM_AGENT, codec.decode_from_agent),
    "gateway": (messages.FROM_GATEWAY, codec.decode_from_gateway),
}


def values(hint: Any, *bounds: Any) -> st.SearchStrategy[Any]:
    """Valid values of a field, read from its annotation: a new field is tested without being named here."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return values(arguments[0], *arguments[1:], *bounds)
    if origin in (Union, types.UnionType):
        return st.one_of([st.none() if item is type(None) else values(item, *bounds) for item in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(values(arguments[0]), min_size=_low(bounds), max_size=_low(bounds) + 2).map(tuple)
    if origin is dict:
        return st.dictionaries(TEXT, values(arguments[1]), max_size=2)
    if dataclasses.is_dataclass(hint):
        return messages_of(hint)
    if issubclass(hint, StrEnum):
        return st.sampled_from(list(hint))
    return _scalar(hint, bounds)


def _scalar(hint: type, bounds: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    limits = next((item for item in bounds if isinstance(item, Range)), Range(0, 2**31))
    if hint is bool:
        return st.booleans()
    if hint is int:
        return st.integers(int(limits.low), int(limits.high))
    if hint is float:
        return st.floats(limits.low, limits.high)
    for item in bounds:
        if isinstance(item, Pattern):
            return st.from_regex(item.regex, fullmatch=True)
    clean = TEXT.map(one_line) if any(isinstance(item, OneLine) for item in bounds) else TEXT
    return clean.filter(lambda text: len(text) >= _low(bounds))


def _low(bounds: tuple[Any, ...]) -> int:
    return next((int(item.low) for item in bounds if isinstance(item, Length)), 0)


def _fields(cls: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cls)


def messages_of(cls: Any) -> st.SearchStrategy[Any]:
    hints = get_type_hints(cls, include_extras=True)
    return st.builds(cls, **{field.name: values(hints[field.name]) for field in _fields(cls)})


@pytest.mark.parametrize("way", WAYS)
@given(data=st.data())
def test_every_message_arrives_as_it_was_sent(way: str, data: st.DataObject) -> None:
    kinds, decode = WAYS[way]
    sent = data.draw(st.lists(st.sampled_from(kinds).flatmap(messages_of), max_size=4))
    assert [message for frame in codec.encode(sent) for message in decode(frame)] == sent


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "attempt", "held", "metrics", "x"]), inner, max_size=3)
    ),
    max_leaves=10,
)


@pytest.mark.parametrize("way", WAYS)
@given(frame=st.text() | st.binary() | JSON.map(jsontext.dumps_lossy) | JSON.map(lambda item: f"[{item!r}]"))
def test_whatever_arrives_is_understood_or_refused(way: str, frame: str | bytes) -> None:
    kinds, decode = WAYS[way]
    refusal: codec.BadFrame | None = None
    found: list[messages.Message] = []
    try:
        found = decode(frame)
    except codec.BadFrame as error:
        refusal = error
    assert all(isinstance(message, kinds) for message in found)
    assert refusal is None or (str(refusal) and len(refusal.field) <= 255)


@pytest.mark.parametrize("way", WAYS)
@given(data=st.data())
def test_one_field_spoilt_is_refused_by_name(way: str, data: st.DataObject) -> None:
    kinds, decode = WAYS[way]
    message = data.draw(st.sampled_from([kind for kind in kinds if _fields(kind)]).flatmap(messages_of))
    (frame,) = codec.encode([message])
    (body,) = jsontext.loads(frame)
    name = data.draw(st.sampled_from([field.name for field in _fields(message)]))
    right = getattr(message, name)
    is_object = isinstance(right, dict) or dataclasses.is_dataclass(right)
    body[name] = 7 if is_object else {"not": ["what", "is", "wanted"]}
    with pytest.raises(codec.BadFrame) as caught:
        decode(jsontext.dumps([body]))
    assert caught.value.field.startswith(f"[0].{name}")


@given(JSON)
def test_a_lossy_text_can_always_be_stored(value: Any) -> None:
    text = jsontext.dumps_lossy(value)
    jsontext.check_text(text)
    assert "\x00" not in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("battery_percent", "100.5"),
        ("battery_percent", "-1"),
        ("battery_percent", "1e999"),
        ("battery_percent", "NaN"),
        ("battery_percent", '"80"'),
        ("battery_percent", "true"),
        ("charging", "1"),
        ("charging", '"yes"'),
        ("temperature_c", "301"),
        ("temperature_c", "-101"),
        ("temperature_c", "[40]"),
    ],
)
def test_odd_readings_of_battery_and_heat_make_a_frame_unusable(name: str, value: str) -> None:
    with pytest.raises(codec.BadFrame):
        codec.decode_from_agent(f'[{{"type": "heartbeat", "metrics": {{"{name}": {value}}}}}]')
