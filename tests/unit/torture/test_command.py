"""The command says which of its options is wrong, before anything is started."""

from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from retire_cluster.torture import runner
from retire_cluster.torture.runner import Options, Report, table


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
