"""What running tasks print and how far they are, from an agent's messages to the API's answers."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from retire_cluster.protocol import messages as wire
from retire_cluster.protocol.states import Outcome, Stream
from tasks import output
from tasks.models import OutputChunk, Task
from tests.contract.conftest import Api
from tests.integration.gateway.cluster import Cluster, FakeLink, sent, submit

pytestmark = pytest.mark.django_db(transaction=True)
OUT = Stream.STDOUT


class Running:
    """A device with one accepted task."""

    def __init__(self, **more: Any) -> None:
        self.cluster = Cluster()
        self.link = self.cluster.join("alice")
        (self.task_id,) = submit(**more)
        self.accept()

    def accept(self) -> None:
        self.cluster.step()
        (order,) = sent(self.link, wire.Assign)
        assert isinstance(order, wire.Assign)
        self.attempt = order.attempt
        self.cluster.say(self.link, wire.Accepted(attempts=(self.attempt,)))

    def prints(self, *texts: str, first: int = 0, link: FakeLink | None = None, **more: Any) -> list[int]:
        """One frame with a piece each; the number acknowledged."""
        pieces = [
            wire.Output(attempt=self.attempt, number=first + index, stream=OUT, text=text, **more)
            for index, text in enumerate(texts)
        ]
        self.cluster.say(link or self.link, *pieces)
        return [ack.number for ack in sent(link or self.link, wire.OutputAck)]

    def ends(self, outcome: Outcome = Outcome.SUCCESS) -> None:
        self.cluster.say(
            self.link,
            wire.Result(attempt=self.attempt, outcome=outcome, result_json="1"),  # type: ignore[arg-type]
        )

    def logs(self, query: str = "") -> Any:
        return Api().data(f"tasks/{self.task_id}/logs{query}")

    def text(self) -> str:
        return "".join(chunk["text"] for chunk in self.logs("?limit=500")["chunks"])


@pytest.fixture
def running() -> Running:
    return Running()


def test_output_is_shown_while_the_task_runs_and_can_be_followed_to_its_end(running: Running) -> None:
    assert running.prints("one\n", "two\n") == [2]
    first = running.logs("?limit=1")
    assert [(chunk["offset"], chunk["text"], chunk["stream"]) for chunk in first["chunks"]] == [
        (0, "one\n", "stdout")
    ]
    assert (first["next_offset"], first["is_complete"], first["status"]) == (4, False, "running")
    second = running.logs(f"?offset={first['next_offset']}")
    assert [chunk["text"] for chunk in second["chunks"]] == ["two\n"]
    nothing = running.logs(f"?offset={second['next_offset']}")
    assert (nothing["chunks"], nothing["next_offset"], nothing["is_complete"]) == ([], 8, False)
    running.prints("end\n", first=2)
    running.ends()
    last = running.logs("?offset=8")
    assert ([chunk["text"] for chunk in last["chunks"]], last["is_complete"]) == (["end\n"], True)


def test_a_piece_sent_again_is_stored_once(running: Running) -> None:
    running.prints("one\n", "two\n")
    assert running.prints("one\n", "two\n", "three\n") == [3]
    assert running.text() == "one\ntwo\nthree\n"


def test_what_was_left_out_is_told(running: Running) -> None:
    running.prints("one\n")
    running.prints("end\n", first=1, left_out=1000)
    chunks = running.logs()["chunks"]
    assert [(chunk["offset"], chunk["left_out"]) for chunk in chunks] == [(0, 0), (1004, 1000)]
    assert running.logs("?offset=4")["chunks"][0]["left_out"] == 1000


def test_another_device_s_words_are_not_stored_but_acknowledged(running: Running) -> None:
    mallory = running.cluster.join("mallory")
    assert running.prints("lies\n", link=mallory) == [1]
    assert not OutputChunk.objects.exists()


def test_the_next_attempt_goes_on_behind_and_the_old_one_is_not_heard_any_more() -> None:
    running = Running(retries=1)
    running.prints("one\n")
    running.ends(Outcome.FAILED)
    old = running.attempt
    Task.objects.update(ready_at="2020-01-01T00:00:00Z")
    running.cluster.tick()
    running.cluster.tick()
    running.accept()
    running.prints("two\n")
    new, running.attempt = running.attempt, old
    running.prints("late\n", first=1)
    running.attempt = new
    chunks = running.logs()["chunks"]
    assert [(chunk["attempt"], chunk["text"]) for chunk in chunks] == [(1, "one\n"), (2, "two\n")]


def test_head_and_tail_are_kept_of_very_much(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "HEAD", 20)
    monkeypatch.setattr(output, "TAIL", 20)
    for number in range(50):
        running.prints(f"{number:03d}\n", first=number)
    assert running.text() == "".join(f"{number:03d}\n" for number in (*range(5), *range(45, 50)))
    assert sum(chunk["left_out"] for chunk in running.logs()["chunks"]) == 40 * 4


def test_head_and_tail_are_kept_of_very_many_pieces(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "HEAD_PIECES", 5)
    monkeypatch.setattr(output, "TAIL_PIECES", 5)
    running.prints(*"abcdefghijklmnopqrstuvwxyz")
    assert running.text() == "abcdeuvwxyz"


def test_absurd_numbers_do_no_harm(running: Running) -> None:
    running.prints("a")
    for number in range(1, 20):
        running.prints("b", first=number, left_out=2**53)
    running.prints("", first=wire.MAX_CHUNKS)
    running.ends()
    assert running.logs()["next_offset"] < 2**53
    assert Task.objects.get(pk=running.task_id).status == "success"


def test_many_pieces_cost_the_statements_of_one(running: Running) -> None:
    with CaptureQueriesContext(connection) as one:
        running.prints("a")
    with CaptureQueriesContext(connection) as many:
        running.prints(*"bcdefghijklmnopqrstuvwxyz", first=1)
    assert len(many) == len(one)
    assert running.text() == "abcdefghijklmnopqrstuvwxyz"


def test_progress_is_shown_until_the_task_ends(running: Running) -> None:
    api = Api()
    status = f"tasks/{running.task_id}/status"
    assert (api.data(status)["progress"], api.data(status)["progress_message"]) == (None, None)
    running.cluster.say(
        running.link, wire.Progress(attempt=running.attempt, percent=41.5, message="page 5 of 12")
    )
    assert (api.data(status)["progress"], api.data(status)["progress_message"]) == (41.5, "page 5 of 12")
    assert api.data("tasks")[0]["progress"] == 41.5
    running.ends()
    assert api.data(status)["progress"] == 100


def test_progress_starts_anew_with_the_next_attempt() -> None:
    running = Running(retries=1)
    running.cluster.say(running.link, wire.Progress(attempt=running.attempt, percent=80, message="soon"))
    running.ends(Outcome.FAILED)
    task = Task.objects.get(pk=running.task_id)
    assert (task.status, task.progress, task.progress_message) == ("pending", None, "")


def test_progress_of_an_old_session_or_another_s_attempt_does_not_count(running: Running) -> None:
    mallory = running.cluster.join("mallory")
    running.cluster.say(mallory, wire.Progress(attempt=running.attempt, percent=99))
    assert Task.objects.get(pk=running.task_id).progress is None
    running.ends()
    running.cluster.say(running.link, wire.Progress(attempt=running.attempt, percent=1))
    assert Task.objects.get(pk=running.task_id).progress is None
