"""What `run` says when the way to the server is lost."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from retire_cluster.sdk import Client, ConnectionFailed, Task
from retire_cluster.sdk.errors import Conflict, SdkError
from retire_cluster.sdk.models import OutputChunk
from retire_cluster.terminal import following

TASK = Task(
    task_id="t1", task_type="command", status="running", priority="normal", created_at=datetime.now(UTC)
)


class Away:
    """A client whose cancel fails."""

    def __init__(self, error: SdkError) -> None:
        self._error = error

    def cancel(self, task: Task) -> Task:
        raise self._error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionFailed("no way"), "whether it stopped is not known: no way"),
        (Conflict("it ended", status=409), ""),
    ],
)
def test_a_cancel_that_fails_says_what_is_known(
    error: SdkError, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        following._cancelled_when_we_end(cast("Client", Away(error)), TASK),
    ):
        raise KeyboardInterrupt
    announced, _, more = capsys.readouterr().err.partition("\n")
    assert announced == "cancelling task t1; Ctrl-C again leaves without waiting"
    assert more.startswith(words) if words else more == ""


def chunk(**more: Any) -> OutputChunk:
    values: dict[str, Any] = {"offset": 0, "attempt": 1, "stream": "stdout", "text": "x", "left_out": 0}
    return OutputChunk(at=datetime.now(UTC), **{**values, **more})


def test_each_stream_goes_where_it_belongs_and_what_is_missing_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with following.Output() as output:
        for piece in (chunk(text="out"), chunk(text="err", stream="stderr"), chunk(text="more", left_out=7)):
            output.pass_on(piece)
    said = capsys.readouterr()
    assert said.out == "outmore"
    assert said.err == "err[7 characters of output are missing here]\n"


def test_another_attempt_is_marked_beside_the_output_and_not_in_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with following.Output() as output:
        for number in (1, 1, 2, 2, 4):
            output.pass_on(chunk(attempt=number, text=f"of {number}\n"))
    said = capsys.readouterr()
    assert said.out == "of 1\nof 1\nof 2\nof 2\nof 4\n"
    assert said.err == "[attempt 2 begins here]\n[attempt 4 begins here]\n"
