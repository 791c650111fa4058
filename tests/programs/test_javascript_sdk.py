"""The npm package in clients/javascript: its own tests on a real server, its types, its tarball."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from retire_cluster import __version__
from retire_cluster.sdk import RetireClusterAPI
from tests.e2e.cluster import Cluster, Process, clean_environment, running, until
from tests.e2e.snippets import JAVASCRIPT, at

PACKAGE = Path(__file__).parents[2] / "clients" / "javascript"
KEY = "a-key-of-the-tests"
IMPORT = 'import { RetireClusterAPI } from "retire-cluster";\n'
USAGE = JAVASCRIPT[JAVASCRIPT.index("// Usage") :]
# Node 20 has a WebSocket of its own only behind this flag, as later ones and browsers have.
WEBSOCKETS = pytest.mark.parametrize("flags", [(), ("--experimental-websocket",)], ids=["ours", "global"])


def program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"these tests run {name}: apt install nodejs npm"
    return found


def run(*command: str | Path, cwd: Path, seconds: float = 100, **environment: str) -> str:
    """Output of a command that must succeed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**clean_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    at = max(0, done.stdout.find("not ok") - 500)  # of Node's runner; else how it ended
    shown = done.stdout[at : at + 4000] if at else ""
    assert done.returncode == 0, f"{shown}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def where(cluster: Cluster) -> dict[str, str]:
    return {
        "RETIRE_CLUSTER_TEST_URL": f"http://127.0.0.1:{cluster.port}",
        "RETIRE_CLUSTER_TEST_KEY": KEY,
    }


@contextmanager
def closed_cluster(directory: Path) -> Iterator[Cluster]:
    """A server that wants a key for everything, and a device that a test may remove."""
    with running(directory, "--auth", "all", "--api-key", KEY) as cluster:
        cluster.api.headers["X-API-Key"] = KEY
        yield cluster


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is empty but for the package, installed from its tarball without a network."""
    target = tmp_path_factory.mktemp("installed")
    packed = run(program("npm"), "pack", "--pack-destination", target, PACKAGE, cwd=target).split()[-1]
    (target / "package.json").write_text('{"private": true, "type": "module"}')
    run(program("npm"), "install", "--offline", "--no-audit", "--no-fund", target / packed, cwd=target)
    return target


@pytest.mark.timeout(240)
@WEBSOCKETS
def test_its_own_tests_pass_on_a_real_server(tmp_path: Path, flags: tuple[str, ...]) -> None:
    files = sorted((PACKAGE / "test").glob("*.test.js"))
    assert len(files) >= 5
    with closed_cluster(tmp_path) as cluster:
        cluster.join("spare", "--tags", "spare")
        cluster.online("spare")
        # One file after the other: one of them removes a device and resets the configuration.
        how = (*flags, "--test", "--test-concurrency=1", "--test-timeout=60000")
        said = run(program("node"), *how, *files, cwd=PACKAGE, seconds=200, **where(cluster))
    assert "# fail 0" in said
    assert "# skipped 0" in said


def test_its_tests_fail_without_a_server() -> None:
    file = PACKAGE / "test" / "cluster.test.js"
    done = subprocess.run(
        [program("node"), "--test", file], env=clean_environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "RETIRE_CLUSTER_TEST_URL is not set" in done.stdout


def test_the_specifications_snippet_runs_with_the_installed_package(installed: Path, tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        script = installed / "snippet.js"
        script.write_text(IMPORT + at(cluster.port, USAGE) + "console.log(JSON.stringify({status, task}));\n")
        said = json.loads(run(program("node"), script, cwd=installed))

        assert said["status"]["data"]["cluster_stats"]["total_devices"] == 1
        task = cluster.ended(said["task"]["data"]["task_id"])
        assert task["result"] == {"echo": {"message": "Hello"}}


def test_it_needs_no_other_package_and_brings_nothing_needless(installed: Path) -> None:
    packages = [item.name for item in (installed / "node_modules").iterdir() if not item.name.startswith(".")]
    assert packages == ["retire-cluster"]
    home = installed / "node_modules" / "retire-cluster"
    described = json.loads((home / "package.json").read_text())
    assert not {"dependencies", "peerDependencies", "optionalDependencies"} & set(described)
    assert sorted(item.name for item in home.iterdir()) == ["LICENSE", "README.md", "package.json", "src"]
    assert (home / "LICENSE").read_bytes() == (PACKAGE.parents[1] / "LICENSE").read_bytes()


def test_its_version_is_that_of_the_project() -> None:
    assert json.loads((PACKAGE / "package.json").read_text())["version"] == __version__


def test_it_has_a_class_for_every_error_code_of_the_api(installed: Path) -> None:
    script = (
        'import("retire-cluster").then((sdk) => console.log(JSON.stringify(Object.keys(sdk.ERRORS_BY_CODE))))'
    )
    codes = json.loads(run(program("node"), "-e", script, cwd=installed))
    from retire_cluster.api.errors import ErrorCode

    assert sorted(codes) == sorted(ErrorCode)


def test_its_types_fit_a_program_that_uses_all_of_it(installed: Path, tmp_path: Path) -> None:
    compiler = json.loads((PACKAGE / "package.json").read_text())["devDependencies"]["typescript"]
    npm = (program("npm"), "install", "--prefer-offline", "--no-audit", "--no-fund", "--no-save")
    run(*npm, f"typescript@{compiler}", cwd=tmp_path)
    source = (PACKAGE / "testing" / "everything.ts").read_text()
    (installed / "everything.ts").write_text(source)
    strict = ("--strict", "--noEmit", "--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom")
    run(
        program("node"), tmp_path / "node_modules/typescript/bin/tsc", *strict, "everything.ts", cwd=installed
    )

    names = (
        'import("retire-cluster").then(({Client, RetireClusterAPI, ...more}) => console.log(JSON.stringify('
        "[Client, RetireClusterAPI].flatMap((kind) => Object.getOwnPropertyNames(kind.prototype))"
        ".filter((name) => name !== 'constructor').map((name) => `.${name}(`).concat(Object.keys(more)))))"
    )
    members = json.loads(run(program("node"), "-e", names, cwd=installed))
    assert len(members) > 60
    assert [name for name in members if name not in source] == []


@WEBSOCKETS
def test_events_go_on_over_a_restart_of_the_server(tmp_path: Path, flags: tuple[str, ...]) -> None:
    with closed_cluster(tmp_path) as cluster:
        watcher = Watcher(cluster, *flags)
        try:
            until(watcher.frames, "the snapshot")
            before = [cluster.submit() for _ in range(5)]
            until(lambda: watcher.finished() >= set(before), "the tasks before the restart")

            cluster.server.kill()
            cluster.start("--auth", "all", "--api-key", KEY)
            after = [cluster.submit() for _ in range(5)]
            until(lambda: watcher.finished() >= set(after), "the tasks after the restart")
        finally:
            watcher.process.kill()
        assert watcher.gaps() == []


class Watcher:
    """A Node process that prints every frame of the events."""

    def __init__(self, cluster: Cluster, *flags: str) -> None:
        environment = {**clean_environment(), **where(cluster)}
        script = str(PACKAGE / "testing" / "watch.js")
        output = cluster.directory / "frames.log"
        self.process = Process(output, program("node"), *flags, script, environment=environment)

    def frames(self) -> list[Any]:
        lines = self.process.said().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]

    def finished(self) -> set[str]:
        return {frame["data"]["task_id"] for frame in self.frames() if frame["type"] == "task.finished"}

    def gaps(self) -> list[tuple[int, int]]:
        """Numbers that follow each other in the stream and should not: nothing was said of a loss."""
        frames = self.frames()
        assert frames[0]["type"] == "snapshot", frames[0]
        return [
            (one["seq"], two["seq"])
            for one, two in pairwise(frames)
            if two["type"] not in ("reset", "snapshot") and two["seq"] != one["seq"] + 1
        ]


def test_both_sdks_have_the_same_names() -> None:
    # Of Python's, a page of output is a part of logs(), and nothing has to be closed.
    other = {name for name in dir(RetireClusterAPI) if not name.startswith("_")} - {"logs_page", "close"}
    wanted = {re.sub(r"_(\w)", lambda found: found[1].upper(), name) for name in other}
    names = (
        f"import {{ RetireClusterAPI }} from {json.dumps((PACKAGE / 'src' / 'index.js').as_uri())};\n"
        "const found = Object.keys(new RetireClusterAPI('http://localhost:8081'));\n"
        "for (let kind = RetireClusterAPI; kind.prototype; kind = Object.getPrototypeOf(kind)) "
        "found.push(...Object.getOwnPropertyNames(kind.prototype));\n"
        "console.log(JSON.stringify(found));"
    )
    found = json.loads(run(program("node"), "--input-type=module", "--eval", names, cwd=PACKAGE))
    assert wanted - set(found) == set()
