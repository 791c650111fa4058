"""Equal wishes share a profile however they are written; ranks order the queue and starve nobody."""

import random
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from retire_cluster.protocol.states import Priority
from tasks.scheduling.profiles import MB_PER_GB, ProfileKey, Requirements, from_canonical
from tasks.scheduling.rank import HEAD_START, rank
from tests.unit.tasks.test_planner import requirements

moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
keys = st.builds(ProfileKey, st.text(min_size=1, max_size=10), requirements)


@given(keys, st.randoms())
def test_the_order_and_repetition_of_tags_do_not_matter(key: ProfileKey, dice: random.Random) -> None:
    tags = [*key.requirements.required_tags, *key.requirements.required_tags]
    dice.shuffle(tags)
    same = ProfileKey(key.task_type, _with(key.requirements, required_tags=tuple(tags)))
    assert same.digest() == key.digest()


@given(keys)
def test_a_stored_profile_is_read_back_as_what_it_was(key: ProfileKey) -> None:
    again = from_canonical(key.task_type, key.canonical())
    assert again.digest() == key.digest()
    assert again.requirements.memory_mb == key.requirements.memory_mb
    assert set(again.requirements.required_tags) == set(key.requirements.required_tags)


@given(st.floats(0.001, 1000), st.floats(0.001, 1000))
def test_memory_counts_in_whole_megabytes_rounded_up(one: float, other: float) -> None:
    first, second = (ProfileKey("echo", Requirements(min_memory_gb=value)) for value in (one, other))
    assert (first.digest() == second.digest()) == (
        first.requirements.memory_mb == second.requirements.memory_mb
    )
    assert one * MB_PER_GB <= first.requirements.memory_mb < one * MB_PER_GB + 1


def test_every_wish_and_the_type_tell_profiles_apart() -> None:
    wishes = [
        {},
        {"min_cpu_cores": 2},
        {"min_memory_gb": 1.0},
        {"min_storage_gb": 1.0},
        {"required_platform": "linux"},
        {"required_role": "worker"},
        {"required_tags": ("a",)},
        {"gpu_required": True},
        {"internet_required": True},
    ]
    digests = {
        ProfileKey(task_type, Requirements(**wish)).digest()  # type: ignore[arg-type]  # each wish is one field
        for task_type in ("echo", "sleep")
        for wish in wishes
    }
    assert len(digests) == 2 * len(wishes)


@given(moments, st.sampled_from(Priority), st.integers(0, 1000), st.integers(1, 1000))
def test_equal_priorities_are_served_in_order_of_arrival(
    now: datetime, priority: Priority, index: int, later_us: int
) -> None:
    assert rank(now, priority, index) < rank(now, priority, index + 1)
    assert rank(now, priority) < rank(now + timedelta(microseconds=later_us), priority)


@given(moments)
def test_of_the_same_moment_the_higher_priority_goes_first(now: datetime) -> None:
    order = [Priority.URGENT, Priority.HIGH, Priority.NORMAL, Priority.LOW]
    assert sorted(order, key=lambda priority: rank(now, priority)) == order


@given(moments, st.sampled_from(Priority), st.floats(0.001, 1e6))
def test_nothing_waits_behind_fresh_tasks_for_more_than_its_head_start(
    now: datetime, priority: Priority, seconds: float
) -> None:
    fresh = now + HEAD_START[Priority.URGENT] + timedelta(seconds=seconds)
    assert rank(now, Priority.LOW) < rank(fresh, priority)


def _with(requirements: Requirements, **changes: object) -> Requirements:
    values = {name: getattr(requirements, name) for name in Requirements.__dataclass_fields__}
    return Requirements(**{**values, **changes})
