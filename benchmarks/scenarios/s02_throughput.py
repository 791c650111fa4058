"""S2: no-ops as fast as they go, submitted in batches and one by one by 8 clients; results durable."""

from collections.abc import Callable

from benchmarks.harness import contestants, noops, systems
from benchmarks.harness.bench import Bench, Measure
from benchmarks.harness.contestants import Contestant, Run
from benchmarks.harness.figures import Cell, Outcome
from benchmarks.harness.ours import Embedded, Production

NUMBER = "S2"
TITLE = "No-ops as fast as they go: batch submits of 1,000, and single submits by 8 clients"
BATCHES, SINGLE = "batch submits", f"single submits, {noops.CLIENTS} clients"
RATE, COST = "tasks/s", "CPU-s per 1,000"
Runs = tuple[Contestant, Callable[[int], Run], int]  # who, how, of how many tasks
BATCH_PEERS = (
    systems.CELERY_REDIS,
    systems.CELERY_POSTGRES,
    systems.PROCRASTINATE,
    systems.DASK,
    systems.RAY,
)


def run(bench: Bench) -> Outcome:
    outcome = Outcome()
    ours = [noops.embedded(bench), noops.production(bench)]
    peers = systems.start(bench, (*BATCH_PEERS, systems.FLOWER), outcome)
    many, few = bench.pick(2000, 20_000), bench.pick(300, 20_000)  # a peer needs a minute for 20,000
    one_by_one = bench.pick(200, 20_000)
    in_batches: list[Runs] = [(cluster, cluster.batch, many) for cluster in ours]
    in_batches += [(peer, peer.batch, few) for name, peer in peers.items() if name in BATCH_PEERS]
    singly: list[Runs] = [(cluster, cluster.single, one_by_one) for cluster in ours]
    flower = peers.get(systems.FLOWER)
    if isinstance(flower, systems.Flower):
        singly.append((flower, flower.single, one_by_one))
    entries = [_entry(BATCHES, *run) for run in in_batches] + [_entry(SINGLE, *run) for run in singly]
    outcome.cells = [cell for cell, _ in entries]
    bench.interleave(entries)
    _set_goals(outcome)
    return outcome


def _entry(case: str, contestant: Contestant, run: Callable[[int], Run], size: int) -> tuple[Cell, Measure]:
    cell = Cell(case, contestant.name, contestant.durability, contestant.settings)
    return cell, contestants.throughput(contestant, run, size)


def _set_goals(outcome: Outcome) -> None:
    embedded, postgres = (outcome.cell(BATCHES, shape.name) for shape in (Embedded, Production))
    single = outcome.cell(SINGLE, Production.name)
    outcome.at_least("batches, PostgreSQL", postgres, RATE, 4500, RATE)
    outcome.at_least("batches, embedded", embedded, RATE, 8000, RATE)
    for peer, bound in ((systems.CELERY_REDIS, 15), (systems.CELERY_POSTGRES, 25), (systems.RAY, 5)):
        other = outcome.cell(BATCHES, peer)
        outcome.times(f"batches, PostgreSQL over {peer}", (postgres, RATE), (other, RATE), bound)
    outcome.at_least("single submits, PostgreSQL", single, RATE, 500, RATE)
    flower = outcome.cell(SINGLE, systems.FLOWER)
    outcome.times("single submits, PostgreSQL over Flower", (single, RATE), (flower, RATE), 4)
    outcome.at_most("batches, PostgreSQL: CPU of all processes", postgres, COST, 0.3, "s per 1,000")
