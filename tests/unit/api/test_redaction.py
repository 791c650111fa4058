"""Hidden members of a JSON text."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retire_cluster.api.redaction import hide_members

NAMES = ("env", "data")
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
objects = st.dictionaries(st.sampled_from([*NAMES, "x", "a b", '"', "\\"]) | st.text(), values)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"env":{"A":"s"},"x":1.0e2}', '{"env":"[hidden]","x":1.0e2}'),
        ('{ "x" : 1 , "data" : "s" }', '{ "x" : 1 , "data" : "[hidden]" }'),
        ('{"data":1,"data":2}', '{"data":"[hidden]","data":"[hidden]"}'),
        ('{"x":{"env":1}}', '{"x":{"env":1}}'),
        ('{"\\u0065nv":"s"}', '{"\\u0065nv":"[hidden]"}'),
        ("{}", "{}"),
        ("[1]", "[1]"),
        ("null", "null"),
    ],
)
def test_only_the_values_of_the_named_members_change(text: str, shown: str) -> None:
    assert hide_members(text, NAMES) == shown


@given(objects, st.sampled_from([None, 0, 2]), st.booleans())
def test_any_object_keeps_everything_else(value: dict[str, Any], indent: int | None, plain: bool) -> None:
    shown = json.loads(hide_members(json.dumps(value, indent=indent, ensure_ascii=plain), NAMES))

    assert shown == {name: "[hidden]" if name in NAMES else item for name, item in value.items()}
