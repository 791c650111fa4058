"""The comparison of shown output with what came can fail."""

from pathlib import Path

import pytest

from tests.documented import fits, found_in, says


def test_blocks_are_found_with_language_title_and_line() -> None:
    text = 'Text\n\n```bash title="A shell"\nls\n```\n\n1. Item\n\n   ```json\n   {\n     "a": 1}\n   ```\n'
    first, second = found_in(Path("page.md"), text)
    assert (first.language, first.title, first.text, first.line) == ("bash", "A shell", "ls\n", 3)
    assert (second.language, second.title, second.text, second.line) == ("json", "", '{\n  "a": 1}\n', 9)


@pytest.mark.parametrize(
    ("shown", "came"),
    [
        ({"a": "x…"}, {"a": "xyz", "b": 1}),
        ([{"a": 1}], [{"b": 2}, {"a": 3}]),
        ({"a": None}, {"a": None}),
        ({"a": 0.5}, {"a": 3}),
    ],
)
def test_what_is_shown_is_there(shown: object, came: object) -> None:
    assert fits(shown, came)


@pytest.mark.parametrize(
    ("shown", "came"),
    [
        ({"a": "x"}, {"a": "y"}),
        ({"a": "x"}, {}),
        ([{"a": 1}, {"a": 1}], [{"a": 1}]),
        ({"a": True}, {"a": 1}),
        ({"a": 1}, {"a": True}),
        ({"a": False}, {"a": True}),
        ({"a": {}}, {"a": []}),
    ],
)
def test_what_is_shown_and_is_not_there_is_found(shown: object, came: object) -> None:
    assert not fits(shown, came)


def test_lines_are_compared_in_their_order() -> None:
    said = "up.\nKey   rck_12\nmore\nFirst  echo\n"
    assert says("up.\nKey   rck_…\n…\nFirst  echo", said)
    assert not says("First  echo\nup.", said)
    assert not says("up.\nKey   rcs_…", said)
    assert not says("up", said)
