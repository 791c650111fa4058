"""JSON to models: what is known is checked, what is new is let through."""

import dataclasses
import types
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retire_cluster.sdk import events, models
from retire_cluster.sdk.decoding import Mismatch, Model

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
MODELS = [
    found
    for module in (models, events)
    for found in vars(module).values()
    if isinstance(found, type) and issubclass(found, Model) and found is not Model
]


def sample(hint: Any) -> Any:
    """Some JSON of the type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is types.UnionType:
        return sample(arguments[0])
    if origin is tuple:
        return [sample(arguments[0])]
    if origin is not None:
        return {"x": sample(arguments[1])}
    if issubclass(hint if isinstance(hint, type) else object, Model):
        return example(hint)
    return {str: "x", int: 3, float: 2, bool: True, datetime: "2026-11-28T10:00:00.5Z"}.get(hint, {"any": 1})


def example(model: type[Model]) -> dict[str, Any]:
    """A JSON object of the model, with all its fields."""
    hints = get_type_hints(model)
    return {item.name: sample(hints[item.name]) for item in dataclasses.fields(model) if item.name != "raw"}


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_made_of_its_fields_and_keeps_what_is_new(model: type[Model]) -> None:
    data = {**example(model), "of_a_newer_server": [1]}
    found = model.of(data)
    assert found.raw == data
    assert found == model.of(example(model))


@pytest.mark.parametrize("model", MODELS)
def test_what_has_no_default_is_missed(model: type[Model]) -> None:
    full = example(model)
    for item in dataclasses.fields(model):
        rest = {name: value for name, value in full.items() if name != item.name}
        optional = not item.default is item.default_factory is dataclasses.MISSING
        if optional:
            model.of(rest)
        else:
            with pytest.raises(Mismatch, match=f"{model.__name__}.{item.name} is missing"):
                model.of(rest)


@given(st.sampled_from(MODELS), JSON)
def test_whatever_comes_is_a_model_or_a_mismatch(model: type[Model], data: Any) -> None:
    try:
        assert model.of(data).raw == data
    except Mismatch:
        return


@given(st.sampled_from(MODELS), st.data(), JSON)
def test_a_field_of_another_type_is_a_mismatch_or_of_the_right_type(
    model: type[Model], data: st.DataObject, value: Any
) -> None:
    full = example(model)
    name = data.draw(st.sampled_from(sorted(full)))
    try:
        found = model.of({**full, name: value})
    except Mismatch:
        return
    assert fits(get_type_hints(model)[name], getattr(found, name))


def fits(hint: Any, value: Any) -> bool:
    """Whether a value is of the type, all the way down."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is types.UnionType:
        return any(fits(item, value) for item in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(arguments[0], item) for item in value)
    if origin is not None:
        return isinstance(value, Mapping) and all(fits(arguments[1], item) for item in value.values())
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_are_read_as_the_api_writes_them(moment: datetime) -> None:
    text = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
    found = models.Ticket.of({"ticket": "x", "expires_at": text})
    assert found.expires_at == moment


def test_secrets_are_not_shown_by_accident() -> None:
    secret = {"key": "rck_secret", "token": "rcj1_secret", "join_command": "join secret", "ticket": "secret"}
    for model in (models.NewKey, models.NewJoinToken, models.Ticket):
        known = {name: value for name, value in secret.items() if name in get_type_hints(model)}
        assert known
        assert "secret" not in repr(model.of({**example(model), **known}))


def test_requirements_go_out_as_they_came_in() -> None:
    wanted = models.Requirements(min_cpu_cores=2, required_tags=("gpu", "fast"), timeout_seconds=5)
    assert models.Requirements.of(wanted.to_json()) == wanted
