"""S1: from submit to result through REST, one no-op at a time.

Three states of the cluster: nothing else there; 1,000 (quick: 300) other agents connected that offer another task
type; behind a backlog of lower priority.

The backlog: 100,000 (quick: 10,000) low `sleep` tasks of BACKLOG_PROFILES profiles, all of which one more connected
agent can run. Its slots are full of them all the time, and each placement has to look past the whole queue. It
moves a few tasks a second. The no-ops' own agents do not offer `sleep`: placement does not interrupt what runs, so
tasks that could run there would be a measure of their length.
"""

from benchmarks.harness import contestants, noops, systems
from benchmarks.harness.agents import Agents
from benchmarks.harness.bench import Bench, Measure
from benchmarks.harness.contestants import Contestant
from benchmarks.harness.figures import Cell, Outcome
from benchmarks.harness.noops import Noops
from benchmarks.harness.ours import Embedded, Production

NUMBER = "S1"
TITLE = "Submit to result through REST, one no-op at a time"
ALONE, CROWDED, BEHIND = "alone", "with many other agents", "behind a backlog of lower priority"
P50, P99 = "p50 ms", "p99 ms"
BACKLOG_PROFILES = 20
BACKLOG_SLOTS, BACKLOG_SLEEP_S = 16, 10
JOIN_S = 120.0
PEERS = (
    systems.CELERY_REDIS,
    systems.CELERY_POSTGRES,
    systems.FLOWER,
    systems.PROCRASTINATE,
    systems.DASK,
    systems.RAY,
)


def run(bench: Bench) -> Outcome:
    outcome = Outcome()
    count = bench.pick(60, 1000)
    alone = [noops.embedded(bench), noops.production(bench)]
    peers = systems.start(bench, PEERS, outcome)
    crowded = [noops.embedded(bench, "-crowded"), noops.production(bench, "-crowded")]
    for cluster in crowded:
        _crowd(bench, cluster, bench.pick(300, 1000))
    behind = [noops.embedded(bench, "-behind"), noops.production(bench, "-behind")]
    for cluster in behind:
        _fill(bench, cluster, bench.pick(10_000, 100_000))
    contenders: dict[str, list[Contestant]] = {
        ALONE: [*alone, *peers.values()],
        CROWDED: [*crowded],
        BEHIND: [*behind],
    }
    entries = [_entry(case, item, count) for case, items in contenders.items() for item in items]
    outcome.cells = [cell for cell, _ in entries]
    bench.interleave(entries)
    _set_goals(outcome)
    return outcome


def _entry(case: str, contestant: Contestant, count: int) -> tuple[Cell, Measure]:
    cell = Cell(case, contestant.name, contestant.durability, contestant.settings)
    return cell, contestants.latency(contestant, count)


def _crowd(bench: Bench, cluster: Noops, count: int) -> None:
    """Connect the others."""
    bench.say(f"{count:,} other agents join {cluster.name}")
    ours = cluster.ours
    api = ours.api()
    api.call("PUT", "config/server", {"max_connections": count + 100})
    api.close()
    log = ours.directory / "others.log"
    others = Agents(ours.gateway_port, ours.data_dir / "join-token", count, log)
    bench.stack.callback(others.stop)
    others.wait(count, JOIN_S)
    cluster.settings += f"; {count:,} other agents"


def _fill(bench: Bench, cluster: Noops, count: int) -> None:
    """Queue the backlog, and join the agent that works on it."""
    bench.say(f"a backlog of {count:,} for {cluster.name}")
    tags = [f"backlog-{number}" for number in range(BACKLOG_PROFILES)]
    what = ("--task-types", "sleep", "--tags", ",".join(tags))
    cluster.ours.join("busy", "--slots", str(BACKLOG_SLOTS), *what)
    tasks = [
        {
            "task_type": "sleep",
            "priority": "low",
            "payload": {"duration": BACKLOG_SLEEP_S},
            "requirements": {"required_tags": [tags[number % BACKLOG_PROFILES]]},
        }
        for number in range(1000)
    ]
    api = cluster.ours.api()
    for _ in range(count // len(tasks)):
        api.call("POST", "tasks/batch", {"tasks": tasks})
    api.close()
    cluster.settings += f"; {count:,} tasks wait"


def _set_goals(outcome: Outcome) -> None:
    embedded, postgres = (outcome.cell(ALONE, shape.name) for shape in (Embedded, Production))
    outcome.at_most("PostgreSQL p50", postgres, P50, 5, "ms")
    outcome.at_most("PostgreSQL p99", postgres, P99, 10, "ms")
    outcome.at_most("embedded p50", embedded, P50, 3.5, "ms")
    for peer, bound in ((systems.CELERY_POSTGRES, 2.5), (systems.FLOWER, 3)):
        other = outcome.cell(ALONE, peer)
        outcome.times(f"p50 of {peer} over PostgreSQL's", (other, P50), (postgres, P50), bound)
    for case in (CROWDED, BEHIND):
        for shape, reference in ((Embedded, embedded), (Production, postgres)):
            loaded = outcome.cell(case, shape.name)
            words = f"p99 {case}, {shape.name}, over alone"
            outcome.at_most_times(words, (loaded, P99), (reference, P99), 2)
