"""`torture`: proves the delivery guarantees on a scratch cluster of real processes, under faults."""

import secrets
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from retire_cluster.torture import chaos, runner
from retire_cluster.torture.processes import CannotStart
from retire_cluster.torture.report import Interrupted, Report, table
from retire_cluster.torture.shapes import SHAPES

EPISODES, AGENTS = 200, 24
TASKS, CROWD = 5000, 8
FEWEST_AGENTS, MOST_AGENTS = 2, 400


class Command(BaseCommand):
    help = (
        "Play randomly drawn episodes of tasks and faults on a cluster made for this, and judge what was seen; "
        "or, with --shape, thousands of tasks at once while the cluster's processes are killed. "
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
        parser.add_argument(
            "--agents", type=int, help=f"agent processes ({AGENTS}, two for each lane; {CROWD} under chaos)"
        )
        parser.add_argument(
            "--shape",
            choices=sorted(SHAPES),
            help="instead of episodes: a chaos run on this shape, whose processes are killed all the while",
        )
        parser.add_argument("--tasks", type=int, help=f"of a chaos run ({TASKS})")
        parser.add_argument("--keep", action="store_true", help="keep the directory with logs and databases")

    def handle(self, *args: Any, **options: Any) -> None:
        seed = secrets.randbelow(2**32) if options["seed"] is None else options["seed"]
        try:
            report = self._chaos(seed, options) if options["shape"] else self._episodes(seed, options)
        except (CannotStart, Interrupted) as error:
            raise CommandError(str(error)) from None
        self.stdout.write("\n".join(["", *table(report)]))
        if options["keep"] or not report.passed:
            self.stdout.write(f"logs and databases: {report.directory}")
        if not report.passed:
            sys.exit(1)

    def _episodes(self, seed: int, given: dict[str, Any]) -> Report:
        chosen = _options(seed, given)
        self._say(f"seed {seed}: {chosen.agents} agents on a scratch cluster")
        return runner.run(chosen, self._say)

    def _chaos(self, seed: int, given: dict[str, Any]) -> Report:
        chosen = _chaos_options(seed, given)
        self._say(f"seed {seed}: {chosen.tasks} tasks and {chosen.agents} agents, shape {chosen.shape}")
        return chaos.run(chosen, self._say)

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def _options(seed: int, given: dict[str, Any]) -> runner.Options:
    """The validated options of episodes. Raises CommandError."""
    episodes, seconds, agents = given["episodes"], given["seconds"], _agents(given, AGENTS)
    if episodes is not None and episodes < 1:
        raise CommandError(f"--episodes: must be at least 1, is {episodes}")
    if seconds is not None and not seconds > 0:
        raise CommandError(f"--seconds: must be above 0, is {seconds:g}")
    if given["tasks"] is not None:
        raise CommandError("--tasks: needs --shape; an episode draws its tasks itself")
    if episodes is None and seconds is None:
        episodes = EPISODES
    return runner.Options(seed, episodes, seconds, agents, given["keep"])


def _chaos_options(seed: int, given: dict[str, Any]) -> chaos.Options:
    """The validated options of a chaos run. Raises CommandError."""
    tasks = TASKS if given["tasks"] is None else given["tasks"]
    for name in ("episodes", "seconds"):
        if given[name] is not None:
            raise CommandError(f"--{name}: is for episodes; a chaos run ends with its tasks (--tasks)")
    if tasks < 1:
        raise CommandError(f"--tasks: must be at least 1, is {tasks}")
    return chaos.Options(seed, given["shape"], tasks, _agents(given, CROWD), keep=given["keep"])


def _agents(given: dict[str, Any], default: int) -> int:
    agents: int = default if given["agents"] is None else given["agents"]
    if not FEWEST_AGENTS <= agents <= MOST_AGENTS or agents % 2:
        raise CommandError(f"--agents: must be an even number, {FEWEST_AGENTS} to {MOST_AGENTS}, is {agents}")
    return agents
