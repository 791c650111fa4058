"""What tasks print, to its end."""

from collections.abc import Iterator

from retire_cluster.sdk.calls import Calls, get, segment
from retire_cluster.sdk.errors import ApiError, ConnectionFailed, Forbidden, Unauthorized, UnexpectedAnswer
from retire_cluster.sdk.events import TaskOutput
from retire_cluster.sdk.models import OutputChunk, TaskLogs
from retire_cluster.sdk.stream import Events

LARGEST_PAGE = 500  # chunks
FIRST_PAUSE_S = 0.3
LONGEST_PAUSE_S = 3.0  # 20 calls a minute of the 60 the server allows


def page(calls: Calls, task_id: str, offset: int, limit: int, *, patient: bool = False) -> TaskLogs:
    """A part of the output. Raises SdkError."""
    where = f"/tasks/{segment(task_id)}/logs"
    return calls.answer(get(where, offset=offset, limit=limit), patient=patient).to(TaskLogs)


def chunks(calls: Calls, task_id: str, offset: int, *, follow: bool) -> Iterator[OutputChunk]:
    """The output from the offset on, as far as it is there; with `follow` to the task's end."""
    output = Output(calls, task_id, offset, patient=follow)
    yield from output.read()
    if follow and not output.is_complete:
        yield from _follow(output, calls, task_id)


def _follow(output: "Output", calls: Calls, task_id: str) -> Iterator[OutputChunk]:
    """Read whenever the server tells that there is more."""
    with Events(calls, topics=("task",), task_id=task_id, since=None) as stream:
        if not _listens(stream):
            yield from output.poll()
            return
        for event in stream:  # the first one is how things are now
            if not isinstance(event, TaskOutput) or event.offset > output.offset:
                yield from output.read()
            if output.is_complete:
                return


class Output:
    """A task's output, and how far it was read."""

    def __init__(self, calls: Calls, task_id: str, offset: int, *, patient: bool = False) -> None:
        self._calls = calls
        self._task_id = task_id
        self._patient = patient  # who follows stays through a restart of the server
        self.offset = offset
        self.is_complete = False

    def read(self) -> Iterator[OutputChunk]:
        """What is there by now."""
        while not self.is_complete:
            self._calls.spare()
            part = page(self._calls, self._task_id, self.offset, LARGEST_PAGE, patient=self._patient)
            if len(part.chunks) >= LARGEST_PAGE and part.next_offset <= self.offset:
                raise UnexpectedAnswer("the output's next page is one that was read already")
            self.offset, self.is_complete = part.next_offset, part.is_complete
            yield from part.chunks
            if len(part.chunks) < LARGEST_PAGE:
                return

    def poll(self) -> Iterator[OutputChunk]:
        """All to the end, where nobody tells when there is more: a silent task is asked less often."""
        pause = FIRST_PAUSE_S
        while not self.is_complete:
            self._calls.clock.sleep(pause)
            before = self.offset
            yield from self.read()
            pause = FIRST_PAUSE_S if self.offset > before else min(LONGEST_PAUSE_S, pause * 1.5)


def _listens(stream: Events) -> bool:
    """Whether the server tells us of events; gunicorn's workers do not, nor some proxies."""
    try:
        stream.begin()
    except (Unauthorized, Forbidden):
        raise
    except (ApiError, ConnectionFailed, UnexpectedAnswer):
        return False
    return True
