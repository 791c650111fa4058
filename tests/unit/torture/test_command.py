"""The command says which of its options is wrong, before anything is started."""

from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from retire_cluster.torture import chaos, runner
from retire_cluster.torture.report import Report, table
from retire_cluster.torture.runner import Options


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> list[Options]:
    """The options of runs that do nothing but pass."""
    found: list[Options] = []

    def run(options: Options, _: object) -> Report:
        found.append(options)
        return Report(options.seed, tmp_path_factory.mktemp("run"), episodes=1)

    monkeypatch.setattr(runner, "run", run)
    return found


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--episodes", "0"), "--episodes: must be at least 1, is 0"),
        (("--seconds", "0"), "--seconds: must be above 0, is 0"),
        (("--seconds", "nan"), "--seconds: must be above 0, is nan"),
        (("--agents", "3"), "--agents: must be an even number, 2 to 400, is 3"),
        (("--agents", "0"), "--agents: must be an even number, 2 to 400, is 0"),
        (("--tasks", "5"), "--tasks: needs --shape; an episode draws its tasks itself"),
        (("--shape", "embedded", "--tasks", "0"), "--tasks: must be at least 1, is 0"),
        (("--shape", "embedded", "--agents", "1"), "--agents: must be an even number, 2 to 400, is 1"),
        (("--shape", "embedded", "--episodes", "5"), "--episodes: is for episodes; a chaos run ends with"),
        (("--shape", "embedded", "--seconds", "5"), "--seconds: is for episodes; a chaos run ends with"),
        (("--agents", "402"), "--agents: must be an even number, 2 to 400, is 402"),
    ],
)
def test_a_bad_option_is_named(flags: tuple[str, ...], complaint: str, chosen: list[Options]) -> None:
    with pytest.raises(CommandError, match=complaint):
        call_command("torture", *flags)
    assert chosen == []


def test_without_options_two_hundred_episodes_run_from_a_seed_that_is_printed(chosen: list[Options]) -> None:
    said = StringIO()
    call_command("torture", stdout=said)
    (options,) = chosen
    assert (options.episodes, options.seconds, options.keep) == (200, None, False)
    assert f"seed {options.seed}:" in said.getvalue()


def test_with_a_time_any_number_of_episodes_runs(chosen: list[Options]) -> None:
    call_command("torture", "--seconds", "60", "--seed", "7", stdout=StringIO())
    (options,) = chosen
    assert (options.seed, options.episodes, options.seconds) == (7, None, 60)


@pytest.mark.parametrize("shape", ["embedded", "production"])
def test_a_shape_is_brought_chaos_upon_with_five_thousand_tasks(
    shape: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found: list[chaos.Options] = []

    def run(options: chaos.Options, _: object) -> Report:
        found.append(options)
        return Report(options.seed, tmp_path, episodes=1, kinds=("server killed",))

    monkeypatch.setattr(chaos, "run", run)
    said = StringIO()
    call_command("torture", "--shape", shape, "--seed", "7", stdout=said)
    (options,) = found
    assert (options.seed, options.shape, options.tasks, options.agents) == (7, shape, 5000, 8)
    assert "server killed" in said.getvalue()
    assert "gateway killed" not in said.getvalue()


def test_a_violation_is_told_with_its_story_and_fails_the_run(
    chosen: list[Options], monkeypatch: pytest.MonkeyPatch
) -> None:
    passing = runner.run

    def run(options: Options, say: object) -> Report:
        report = passing(options, say)  # type: ignore[arg-type]  # the one of the fixture
        report.complain("server", "it ended by itself")
        return report

    monkeypatch.setattr(runner, "run", run)
    said = StringIO()
    with pytest.raises(SystemExit) as ending:
        call_command("torture", stdout=said)
    assert ending.value.code == 1
    assert "VIOLATION of server in episode 0, task -: it ended by itself" in said.getvalue()
    assert "logs and databases:" in said.getvalue()


def test_a_run_without_an_episode_proves_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert not Report(1, tmp_path_factory.mktemp("run")).passed
    assert any(line.startswith("violations") for line in table(Report(1, tmp_path_factory.mktemp("run"))))
