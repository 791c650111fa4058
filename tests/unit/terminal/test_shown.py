"""What reaches the terminal: every kind of value, and nothing that a device could steer it with."""

import re
from datetime import UTC, datetime, timedelta, tzinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retire_cluster.terminal import shown

CURSOR_UP, WINDOW_TITLE, RED = "\x1b[2A", "\x1b]0;mine\x07", "\x1b[31m"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "-"),
        ("", "-"),
        ((), "-"),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (0.25, "0.25"),
        (["a", "b"], "a,b"),
        ({"status": "online"}, "status online"),
        (datetime(2026, 11, 28, 12, tzinfo=UTC), "2026-11-28T12:00:00Z"),
        ("two\nlines\tand more", "two lines and more"),
    ],
)
def test_each_kind_of_value_is_one_word_in_a_pipe(value: object, words: str) -> None:
    assert shown.cell(value, human=False) == words


@given(st.text())
def test_no_cell_has_a_control_character(text: str) -> None:
    for human in (True, False):
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", shown.cell(text, human=human))


class AtNoon(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "AtNoon":
        return cls(2026, 11, 28, 12, tzinfo=tz)


NOON = AtNoon.now(UTC)


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "datetime", AtNoon)


@pytest.mark.parametrize(
    ("seconds", "words"), [(5, "5 s ago"), (300, "5 min ago"), (7200, "2 h ago"), (200_000, "2 d ago")]
)
@pytest.mark.usefixtures("noon")
def test_a_person_reads_how_long_ago(seconds: int, words: str) -> None:
    assert shown.ago(NOON - timedelta(seconds=seconds)) == words


@pytest.mark.usefixtures("noon")
def test_what_is_to_come_is_said_so() -> None:
    assert shown.ago(NOON + timedelta(hours=3, seconds=5)) == "in 3 h"


def test_output_is_passed_on_as_it_is_in_a_pipe() -> None:
    text = f"{CURSOR_UP}{WINDOW_TITLE}{RED}x\x00"
    assert shown.passed_on(text, to_terminal=False) == text


def test_on_a_terminal_colours_pass_and_nothing_else_does() -> None:
    text = f"a{RED}b\x1b[0m\tc\n{CURSOR_UP}d\x1b[2Je\x9b2Jf\x00\r"
    assert shown.passed_on(text, to_terminal=True) == f"a{RED}b\x1b[0m\tc\nde2Jf\r"


@given(st.text(alphabet="\x1b[]0;mHAJ\x07\x9b\n ab"))
def test_no_escape_but_a_colour_reaches_a_terminal(text: str) -> None:
    left = re.sub(r"\x1b\[[0-9;]*m", "", shown.passed_on(text, to_terminal=True))
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", left)
