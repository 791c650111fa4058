"""What tasks print, to its end."""

from collections.abc import Iterator

from retire_cluster.sdk.calls import Calls, get, segment
from retire_cluster.sdk.models import OutputChunk, TaskLogs

LARGEST_PAGE = 500  # chunks
FIRST_PAUSE_S = 0.3
LONGEST_PAUSE_S = 3.0  # 20 calls a minute of the 60 the server allows
FEW_CALLS_LEFT = 20


def page(calls: Calls, task_id: str, offset: int, limit: int) -> TaskLogs:
    """A part of the output. Raises SdkError."""
    where = f"/tasks/{segment(task_id)}/logs"
    return calls.answer(get(where, offset=offset, limit=limit)).to(TaskLogs)


def chunks(calls: Calls, task_id: str, offset: int, *, follow: bool) -> Iterator[OutputChunk]:
    """The output from the offset on, as far as it is there; with `follow` to the task's end."""
    pause = FIRST_PAUSE_S
    while True:
        part = page(calls, task_id, offset, LARGEST_PAGE)
        yield from part.chunks
        offset = part.next_offset
        if part.is_complete or not (part.chunks or follow):
            return
        if len(part.chunks) == LARGEST_PAGE or not follow:
            continue
        # A silent task is asked less often; one that prints, as often as the rate limit lets us.
        pause = FIRST_PAUSE_S if part.chunks else min(LONGEST_PAUSE_S, pause * 1.5)
        left = calls.calls_left
        calls.clock.sleep(LONGEST_PAUSE_S if left is not None and left < FEW_CALLS_LEFT else pause)
