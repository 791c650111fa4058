"""How a server command runs: one line and exit code 2 for what cannot start, 1 for a part that died."""

import asyncio
import gc
import importlib.util
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from retire_cluster.cli.options import Usage

MOST_FILES = 65_536  # beyond it programs that close every possible file, as some tasks do, take seconds

NO_SERVER = "this installation holds the agent only; the server's part: in a checkout, pip install '.[api]'"


def setup_django() -> None:
    """Load the settings and apps. Raises ImproperlyConfigured."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "retire_cluster.settings")
    import django

    # What is loaded now stays: looking for garbage in it takes a tenth of the start, and of each later search.
    gc.disable()
    django.setup()
    gc.freeze()
    gc.enable()


def has_server() -> bool:
    """Whether the server's packages are installed; the base install holds the agent's only."""
    return importlib.util.find_spec("django") is not None


def run(program: str, start: Callable[[], None]) -> int:
    """Run a server to its end and turn every known trouble into a line and an exit code."""
    if not has_server():
        return _run_in_base_install(program, start)
    from django.core.exceptions import ImproperlyConfigured

    from retire_cluster.startup import StartupError

    try:
        start()
    except (Usage, StartupError, ImproperlyConfigured) as error:
        return fail(program, error, 2)
    except KeyboardInterrupt:
        return 0
    except Exception as error:
        from retire_cluster.serving import PartDied

        if isinstance(error, PartDied):
            return fail(program, error, 1)
        raise
    return 0


def _run_in_base_install(program: str, start: Callable[[], None]) -> int:
    """`--help`, `--version` and wrong flags are answered as ever; a start is not possible."""
    try:
        start()
    except Usage as error:
        return fail(program, error, 2)
    except ModuleNotFoundError:
        return fail(program, NO_SERVER, 2)
    return 0


def serve(shape: object) -> None:
    """Run the shape in an event loop."""
    from retire_cluster import embedded

    assert isinstance(shape, embedded.Shape)
    run_loop(embedded.serve(shape))


def run_loop(main: Coroutine[Any, Any, None]) -> None:
    """Run it to its end in an event loop. uvloop where it is installed."""
    _allow_connections()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main)


def _allow_connections() -> None:
    """As many open files as this process may have, in reason: the usual 1024 end with a thousand devices."""
    if sys.platform == "win32":
        return  # it has no such limit
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def fail(program: str, error: BaseException | str, code: int) -> int:
    """Say it in one line; returns the exit code."""
    print(f"{program}: {error}".replace("\n", " "), file=sys.stderr)
    return code
