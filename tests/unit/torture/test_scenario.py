"""Scenarios come from the seed alone, and together they hold every kind of trouble."""

from retire_cluster.torture.scenario import (
    AGENTS,
    BATCH,
    FAULTS,
    MEMORY_GB,
    SERVER_FAULTS,
    body,
    draw,
    draw_group,
    draw_weather,
    expected,
)

MANY = 300


def test_the_same_seed_draws_the_same_episode_whatever_was_drawn_before() -> None:
    later = [draw(7, number) for number in range(20)][13]
    assert draw(7, 13) == later
    assert draw(8, 13) != later
    assert draw_weather(7, 3) == draw_weather(7, 3)


def test_many_episodes_hold_every_kind_of_fault_and_task() -> None:
    episodes = [draw(1, number) for number in range(MANY)]
    faults = [fault for episode in episodes for fault in episode.faults]
    tasks = [task for episode in episodes for task in episode.tasks]
    assert {fault.kind for fault in faults} == set(FAULTS)
    assert {kind for _, kind, _ in (draw_weather(1, number) for number in range(MANY))} == set(SERVER_FAULTS)
    assert {fault.target for fault in faults} == set(range(AGENTS))
    assert all(2 <= len(episode.tasks) <= 4 and 1 <= len(episode.faults) <= 3 for episode in episodes)
    for wish in ("at_most_once", "retries", "submits_twice", "max_retries", "exit_code"):
        assert {bool(getattr(task, wish)) for task in tasks} == {True, False}, wish
    assert any(task.cancel_after is not None for task in tasks)
    assert any(task.seconds > task.timeout_s for task in tasks)


def test_no_task_asks_for_more_than_an_agent_has() -> None:
    asked = [task.memory_gb for number in range(MANY) for task in draw(1, number).tasks]
    assert all(memory is None or memory <= MEMORY_GB for memory in asked)
    two = {memory for memory in asked if memory is not None and 2 * memory > MEMORY_GB}
    assert two  # and some of them cannot run side by side


def test_a_submission_carries_its_nonce_and_what_its_success_must_be() -> None:
    tasks = [task for number in range(MANY) for task in draw(1, number).tasks]
    for kind in ("echo", "sleep", "python_eval", "command"):
        task = next(task for task in tasks if task.kind == kind)
        sent = body(task, "1.0", "lane-1", ["true"])
        assert sent["metadata"] == {"nonce": "1.0"}
        assert sent["requirements"]["required_tags"] == ["lane-1"]
        assert (expected(task, "1.0") is None) == (kind == "command")


def test_a_crowd_submits_alone_and_in_batches_everything_a_task_may_be() -> None:
    groups = [draw_group(1, number) for number in range(MANY)]
    tasks = [task for group in groups for task in group]
    assert draw_group(1, 7) == groups[7]
    assert {len(group) for group in groups} == set(range(1, BATCH + 1))
    assert {task.kind for task in tasks} == {"command", "echo", "sleep", "python_eval"}
    for wish in ("at_most_once", "retries", "max_retries", "exit_code", "memory_gb"):
        assert {bool(getattr(task, wish)) for task in tasks} == {True, False}, wish
    assert any(task.cancel_after is not None for task in tasks)
    assert any(task.seconds > task.timeout_s for task in tasks)
    assert all(task.memory_gb is None or task.memory_gb <= MEMORY_GB for task in tasks)
