"""Who may import whom: purity of the core, lightness of the agent, layers of the server."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from tests.architecture.code import PRODUCT, ROOT, Source, dotted, sources

AGENT = ("retire_cluster/agent", "retire_cluster/cli/worker.py")
AGENT_MAY = (
    "retire_cluster.__version__",
    "retire_cluster.agent",
    "retire_cluster.protocol",
    "websockets",
    "psutil",
)
SDK = ("retire_cluster/sdk",)
SDK_MAY = (
    "retire_cluster.__version__",
    "retire_cluster.sdk",
    "retire_cluster.protocol",
    "httpx",
    "rich",
    "websockets",
)
# What agent and servers log with, and what that needs.
LOGGING = tuple(f"retire_cluster/{name}.py" for name in ("logs", "logfiles", "credentials", "env"))
LOGGING_MAY = tuple(f"retire_cluster.{name}" for name in ("logfiles", "credentials", "env", "protocol.text"))
PROTOCOL = ("retire_cluster/protocol",)
RULES = ("tasks/scheduling", "tasks/rules.py", "tasks/reconcile.py", "devices/capacity.py")
RULES_MAY = ("retire_cluster.protocol", "tasks.scheduling", "tasks.rules", "devices.capacity")
# Standard modules that bring in a clock, chance, waiting or the outside world.
IMPURE = frozenset(
    [
        "asyncio",
        "os",
        "pathlib",
        "random",
        "secrets",
        "shutil",
        "socket",
        "sqlite3",
        "ssl",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
        "urllib",
    ]
)
# The checker of histories and what it looks at: it must not depend on what it judges, nor on when.
CHECKER = (
    "retire_cluster/torture/checker.py",
    "retire_cluster/torture/history.py",
    "retire_cluster/torture/frames.py",
    "retire_cluster/torture/logbook.py",
)
CHECKER_MAY = ("retire_cluster.protocol.states", "retire_cluster.torture.history")
WALL_CLOCKS = frozenset(
    {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
)
MAY_READ_ONE = "retire_cluster/agent/doctor/clock.py"  # to compare it with the gateway's
CLOCK_READS = frozenset({"now", "utcnow", "today", "uuid1", "uuid4"})
HEAVY = ("django", "rest_framework", "celery", "channels", "kombu", "cryptography", "uvicorn")


def imported(source: Source) -> Iterator[tuple[ast.AST, str]]:
    """Every module or name the file imports, in full."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)


def foreign_imports(source: Source, allowed: Collection[str]) -> list[str]:
    """Imports of anything but the standard library and what is allowed."""
    found = []
    for node, name in imported(source):
        if name.split(".")[0] in sys.stdlib_module_names:
            continue
        if not any(name == item or name.startswith(f"{item}.") for item in allowed):
            found.append(f"{source.at(node)} imports {name}")
    return found


def impurities(source: Source) -> list[str]:
    """Imports and calls through which a clock, chance or I/O could get in."""
    found = [
        f"{source.at(node)} imports {name}"
        for node, name in imported(source)
        if name.split(".")[0] in IMPURE and not name.startswith("urllib.parse.")
    ]
    for node in ast.walk(source.tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in CLOCK_READS
        ):
            found.append(f"{source.at(node)} calls {node.func.attr}()")
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in {"open", "print", "input"}
        ):
            found.append(f"{source.at(node)} calls {node.func.id}()")
    return found


def test_the_agent_imports_only_the_protocol_and_light_libraries() -> None:
    allowed = (*AGENT_MAY, *LOGGING_MAY, "retire_cluster.logs")
    assert [line for source in sources(*AGENT) for line in foreign_imports(source, allowed)] == []


def test_the_sdk_imports_only_the_protocol_and_light_libraries() -> None:
    assert [line for source in sources(*SDK) for line in foreign_imports(source, SDK_MAY)] == []


def test_what_the_agent_logs_with_imports_only_the_standard_library() -> None:
    assert [line for source in sources(*LOGGING) for line in foreign_imports(source, LOGGING_MAY)] == []


def test_the_protocol_imports_only_the_standard_library() -> None:
    allowed = ("retire_cluster.protocol",)
    assert [line for source in sources(*PROTOCOL) for line in foreign_imports(source, allowed)] == []


def test_the_rules_import_only_the_protocol_and_each_other() -> None:
    assert [line for source in sources(*RULES) for line in foreign_imports(source, RULES_MAY)] == []


def test_protocol_and_rules_know_no_clock_no_chance_and_no_io() -> None:
    assert [line for source in sources(*PROTOCOL, *RULES) for line in impurities(source)] == []


def test_the_checker_of_histories_is_pure_and_knows_nothing_of_the_cluster() -> None:
    assert [line for source in sources(*CHECKER) for line in foreign_imports(source, CHECKER_MAY)] == []
    assert [line for source in sources(*CHECKER) for line in impurities(source)] == []


def wall_clocks(source: Source) -> list[str]:
    """Calls that read the clock on the wall."""
    calls = [node for node in ast.walk(source.tree) if isinstance(node, ast.Call)]
    return [
        f"{source.at(call)} calls {dotted(call.func)}()"
        for call in calls
        if ".".join(dotted(call.func).split(".")[-2:]) in WALL_CLOCKS
    ]


def test_no_code_of_the_agent_reads_a_wall_clock() -> None:
    """Invariant I10: a device's clock may be wrong by years."""
    files = [source for source in sources(*AGENT, *PROTOCOL) if source.path != MAY_READ_ONE]
    assert [line for source in files for line in wall_clocks(source)] == []


@pytest.mark.parametrize(
    "text", ["import time\ntime.time()", "datetime.now(UTC)", "import datetime\ndatetime.datetime.now()"]
)
def test_a_wall_clock_is_found(text: str) -> None:
    assert wall_clocks(Source.parse("sample.py", text))
    assert not wall_clocks(
        Source.parse("sample.py", "import time\ntime.monotonic()\ndatetime.fromtimestamp(3)")
    )


@pytest.mark.parametrize(
    "text",
    [
        "import django",
        "from django.db import models",
        "import retire_cluster.settings",
        "from retire_cluster import db",
        "from tasks import models",
        "def later():\n    from celery import Celery",
    ],
)
def test_a_foreign_import_is_found(text: str) -> None:
    assert foreign_imports(Source.parse("sample.py", text), AGENT_MAY)


@pytest.mark.parametrize(
    "text",
    [
        "import time",
        "from random import uniform",
        "import os.path",
        "from datetime import datetime\ndatetime.now()",
        "import uuid\nuuid.uuid4()",
        "open('x')",
    ],
)
def test_an_impurity_is_found(text: str) -> None:
    assert impurities(Source.parse("sample.py", text))


def modules_after(statement: str) -> set[str]:
    """Top-level names of the modules a fresh interpreter has loaded after the statement."""
    script = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_the_agent_loads_nothing_heavy() -> None:
    loaded = modules_after("import retire_cluster.cli.worker, retire_cluster.agent.runtime")
    assert "retire_cluster" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_importing_the_sdk_loads_nothing_heavy() -> None:
    loaded = modules_after("from retire_cluster.sdk import RetireClusterAPI")
    assert {"retire_cluster", "httpx"} <= loaded
    assert loaded.isdisjoint({*HEAVY, "tasks", "devices", "clusterconfig"})


def test_importing_the_agent_does_not_load_the_sdk_s_libraries() -> None:
    loaded = modules_after("import retire_cluster.cli.worker, retire_cluster.agent.runtime")
    assert loaded.isdisjoint({"httpx", "rich", "anyio"})


def test_the_probe_for_heavy_modules_sees_them() -> None:
    assert "django" in modules_after("import django")


def lint_layers(project: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    # -P-like: the copy must win over the installed project.
    return subprocess.run(
        command, cwd=project, env={"PYTHONPATH": str(project)}, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The product's code and its contracts, to be spoiled."""
    project = tmp_path_factory.mktemp("layers")
    for package in PRODUCT:
        shutil.copytree(ROOT / package, project / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", project)
    return project


def test_the_layers_hold(copy: Path) -> None:
    done = lint_layers(copy)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "statement"),
    [
        ("retire_cluster/protocol/codec.py", "import tasks.rules"),
        ("retire_cluster/api/envelope.py", "import devices.models"),
        ("clusterconfig/models.py", "import devices.models"),
        ("devices/models.py", "import tasks.models"),
        ("tasks/lifecycle.py", "import retire_cluster.gateway.sessions"),
        ("retire_cluster/gateway/ingest.py", "import retire_cluster.cli.manage"),
        ("retire_cluster/sdk/calls.py", "import retire_cluster.api.errors"),
        ("retire_cluster/agent/link.py", "import retire_cluster.sdk.client"),
        ("tasks/models.py", "import tasks.lifecycle"),
        ("tasks/rules.py", "import tasks.services"),
    ],
)
def test_an_import_against_the_layers_is_found(copy: Path, file: str, statement: str) -> None:
    spoiled = copy / file
    before = spoiled.read_text()
    try:
        spoiled.write_text(f"{before}\n{statement}\n")
        done = lint_layers(copy)
    finally:
        spoiled.write_text(before)
    assert done.returncode != 0, done.stdout
    assert "BROKEN" in done.stdout
