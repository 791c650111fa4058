"""Bodies of submissions: a batch reads each entry as it would be read alone, whatever others say."""

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from retire_cluster.api.errors import ApiError
from tasks.services import Submission
from tasks.submissions import parse, parse_batch

# Few, so that entries are often alike, and what Python takes for equal stands beside each other.
VALUES = st.sampled_from(
    [None, True, False, 0, 1, 1.0, 2, 2.5, -1, "1", "linux", "android", [], ["a"], ["a", 1]]
)
NAMES = st.sampled_from(
    [
        "min_cpu_cores",
        "min_memory_gb",
        "required_platform",
        "required_tags",
        "gpu_required",
        "max_retries",
        "odd",
    ]
)
REQUIREMENTS = st.one_of(st.dictionaries(NAMES, VALUES, max_size=3), VALUES)


def entry(requirements: Any) -> dict[str, Any]:
    return {"task_type": "echo", "payload": {}, "requirements": requirements}


def alone(requirements: Any) -> Submission | list[tuple[str, str]]:
    """The submission, or what is wrong: fields and reasons."""
    try:
        return parse(entry(requirements))
    except ApiError as refused:
        return wrong(refused)


def wrong(refused: ApiError) -> list[tuple[str, str]]:
    details = refused.failure.details
    return [(error["field"], error["reason"]) for error in details.get("errors", [details])]


@example([{"min_cpu_cores": 1}, {"min_cpu_cores": 1.0}, {"min_cpu_cores": True}])
@example([{"gpu_required": True}, {"gpu_required": 1}, {"gpu_required": True}])
@given(st.lists(REQUIREMENTS, min_size=1, max_size=6))
def test_an_entry_of_a_batch_is_read_as_it_is_alone(wanted: list[Any]) -> None:
    singly = [alone(requirements) for requirements in wanted]
    try:
        found: Any = parse_batch({"tasks": [entry(requirements) for requirements in wanted]})
    except ApiError as refused:
        found = wrong(refused)
    else:
        assert [repr(item) for item in found] == [repr(item) for item in singly]  # 1 is not 1.0
    refusals = [
        (f"tasks[{index}].{field}", reason)
        for index, read in enumerate(singly)
        if isinstance(read, list)
        for field, reason in read
    ]
    assert found == (refusals or singly)
