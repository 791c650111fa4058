"""`torture`: proves the delivery guarantees on a scratch cluster of real processes, under faults."""

import secrets
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from retire_cluster.torture import runner

EPISODES = 200
FEWEST_AGENTS, MOST_AGENTS = 2, 400


class Command(BaseCommand):
    help = (
        "Play randomly drawn episodes of tasks and faults on a cluster made for this, and judge what was seen. "
        "It has a temporary directory and ports of its own; no setting of a real cluster reaches it. "
        "Exit code 1 when a promise was broken."
    )
    requires_system_checks: list[str] = []  # nothing of the configured cluster is used

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--episodes", type=int, help=f"how many ({EPISODES}; any number when --seconds is given)"
        )
        parser.add_argument("--seconds", type=float, help="begin no episode after so many")
        parser.add_argument("--seed", type=int, help="draw the same scenarios as the run that printed it")
        parser.add_argument("--agents", type=int, default=24, help="agent processes, two for each lane (24)")
        parser.add_argument("--keep", action="store_true", help="keep the directory with logs and databases")

    def handle(self, *args: Any, **options: Any) -> None:
        chosen = _options(options)
        self.stdout.write(f"seed {chosen.seed}: {chosen.agents} agents on a scratch cluster")
        try:
            report = runner.run(chosen, self._say)
        except (runner.CannotStart, runner.Interrupted) as error:
            raise CommandError(str(error)) from None
        self.stdout.write("\n".join(["", *runner.table(report)]))
        if chosen.keep or not report.passed:
            self.stdout.write(f"logs and databases: {report.directory}")
        if not report.passed:
            sys.exit(1)

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def _options(given: dict[str, Any]) -> runner.Options:
    """The validated options. Raises CommandError."""
    episodes, seconds, agents = given["episodes"], given["seconds"], given["agents"]
    if episodes is not None and episodes < 1:
        raise CommandError(f"--episodes: must be at least 1, is {episodes}")
    if seconds is not None and not seconds > 0:
        raise CommandError(f"--seconds: must be above 0, is {seconds:g}")
    if not FEWEST_AGENTS <= agents <= MOST_AGENTS or agents % 2:
        raise CommandError(f"--agents: must be an even number, {FEWEST_AGENTS} to {MOST_AGENTS}, is {agents}")
    if episodes is None and seconds is None:
        episodes = EPISODES
    seed = secrets.randbelow(2**32) if given["seed"] is None else given["seed"]
    return runner.Options(seed, episodes, seconds, agents, given["keep"])
