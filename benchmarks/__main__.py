"""Runs scenarios and writes what they found: `python -m benchmarks [--full] [--only S1,S2] [--output PATH]`."""

import argparse
import importlib
import pkgutil
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

from benchmarks import scenarios
from benchmarks.harness import report
from benchmarks.harness.bench import Bench
from benchmarks.harness.figures import Outcome

OUTPUT = Path("build/benchmarks")


def modules() -> dict[str, ModuleType]:
    """The scenarios by number, in order."""
    names = sorted(
        found.name for found in pkgutil.iter_modules(scenarios.__path__) if found.name.startswith("s")
    )
    loaded = [importlib.import_module(f"benchmarks.scenarios.{name}") for name in names]
    return {module.NUMBER: module for module in loaded}


def main() -> int:
    """0 when every chosen scenario ran, whether its goals are met or not; 1 when one could not run."""
    available = modules()
    options = _options(available)
    chosen = {number: available[number] for number in available if number in options.only}
    options.output.mkdir(parents=True, exist_ok=True)
    outcomes: dict[str, Outcome] = {}
    failed = False
    about = {**report.machine(), "profile": "full" if options.full else "quick"}
    titles = {number: module.TITLE for number, module in chosen.items()}
    for number, module in chosen.items():
        began = time.monotonic()
        print(f"{number}: {module.TITLE}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="rc-bench-") as directory, ExitStack() as stack:
            cache = options.output.resolve() / "environments"
            bench = Bench(
                Path(directory),
                cache,
                quick=not options.full,
                blocks=options.blocks,
                peers=options.peers,
                stack=stack,
            )
            try:
                outcomes[number] = module.run(bench)
            except Exception:
                failed = True
                traceback.print_exc()
                _keep_logs(Path(directory), options.output / "logs" / number)
        print(f"    {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        # After each one, so that a run that is ended early leaves what it had.
        (options.output / "results.json").write_text(report.as_json(titles, outcomes, about))
        (options.output / "results.md").write_text(report.as_markdown(titles, outcomes, about))
    print((options.output / "results.md").read_text())
    return 1 if failed else 0


def _options(available: dict[str, ModuleType]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Performance, ours beside its peers."
    )
    parser.add_argument(
        "--full", action="store_true", help="the sizes of BENCHMARKS; without it all in ten minutes"
    )
    parser.add_argument("--only", default=",".join(available), help="numbers of scenarios, such as S1,S4")
    parser.add_argument("--blocks", type=int, default=3, help="measured blocks of each contestant")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="ours alone")
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, help="directory of results.md and results.json"
    )
    options = parser.parse_args()
    options.only = options.only.upper().split(",")
    unknown = [number for number in options.only if number not in available]
    if unknown:
        parser.error(f"there is no scenario {', '.join(unknown)}; there are {', '.join(available)}")
    return options


def _keep_logs(source: Path, target: Path) -> None:
    for log in source.rglob("*.log"):
        target.mkdir(parents=True, exist_ok=True)
        (target / log.name).write_bytes(log.read_bytes())


if __name__ == "__main__":
    sys.exit(main())
