"""The agent as one file: always the same bytes, whole, and nothing in it that one machine alone can run."""

import ast
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import segno

from retire_cluster import __version__, zipapp
from retire_cluster.zipapp.line import join_line

ROOT = Path(__file__).parents[2]
TOKEN = "rcj1_" + "0" * 16 + "_" + "1" * 64 + "_" + "2" * 64
IMPORT_ALL = """
import importlib, json, sys
archive, names = sys.argv[1], json.load(sys.stdin)
sys.path.insert(0, archive)
found = {name: importlib.import_module(name).__file__ for name in names}
found |= {name: module.__file__ for name, module in sys.modules.items() if name.startswith("websockets.")}
print(json.dumps([name for name, file in found.items() if not str(file).startswith(archive)]))
"""


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("agent") / zipapp.NAME
    file.write_bytes(zipapp.archive().content)
    return file


def bare(*arguments: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    """A run of Python with the standard library alone."""
    command = [sys.executable, "-I", "-S", *map(str, arguments)]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)


def module(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def missing(files: Mapping[str, bytes]) -> Iterator[str]:
    """What a file of ours imports of us that is not inside, wherever in the file it does."""
    inside = {module(name) for name in files}
    for name, content in files.items():
        for node in ast.walk(ast.parse(content)) if name.startswith("retire_cluster/") else ():
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("retire_cluster"):
                wanted = [f"{node.module}.{item.name}" for item in node.names]
                yield from (f"{name}: {item}" for item in wanted if not {item, str(node.module)} & inside)
            elif isinstance(node, ast.Import):
                wanted = [item.name for item in node.names if item.name.startswith("retire_cluster")]
                yield from (f"{name}: {item}" for item in wanted if item not in inside)


# --- what is inside -------------------------------------------------------------------------------------------


def test_every_process_builds_the_same_bytes() -> None:
    script = "from retire_cluster import zipapp; print(zipapp.archive().sha256)"
    command = [sys.executable, "-c", script]
    others = {subprocess.check_output(command, cwd=ROOT, text=True).strip() for _ in range(2)}

    assert others == {zipapp.archive().sha256}
    assert zipapp.pack(dict(reversed(zipapp.files().items()))) == zipapp.archive().content


def test_a_changed_file_changes_the_hash() -> None:
    files = zipapp.files()
    files["retire_cluster/__init__.py"] += b"\n"

    assert zipapp.pack(files) != zipapp.archive().content


def test_there_is_source_and_its_licences_and_nothing_compiled(agent: Path) -> None:
    with zipfile.ZipFile(agent) as archive:
        entries = archive.infolist()

    assert {Path(entry.filename).suffix for entry in entries} == {".py", ""}
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    licences = {entry.filename for entry in entries if not entry.filename.endswith(".py")}
    assert licences == {"LICENSE", "websockets/LICENSE"}
    assert zipapp.files()["LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert b"Aymeric Augustin" in zipapp.files()["websockets/LICENSE"]


def test_all_that_its_files_import_of_us_is_inside() -> None:
    assert list(missing(zipapp.files())) == []


def test_what_is_missing_is_found() -> None:
    files = {
        "retire_cluster/a.py": b"def f():\n    from retire_cluster.b import c\n    import retire_cluster.d",
        "retire_cluster/e.py": b"from retire_cluster import a",
    }
    assert list(missing(files)) == [
        "retire_cluster/a.py: retire_cluster.b.c",
        "retire_cluster/a.py: retire_cluster.d",
    ]


def test_every_module_is_imported_from_it_by_a_python_without_packages(agent: Path) -> None:
    names = [
        module(name)
        for name in zipapp.files()
        if name.startswith("retire_cluster/") and "/children/" not in name
    ]
    done = bare("-c", IMPORT_ALL, agent, given=json.dumps(names))

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
    assert len(names) > 40


def test_it_runs_on_a_python_without_packages_and_takes_the_agent_s_options(agent: Path) -> None:
    assert bare(agent, "--version").stdout == f"retire-cluster-worker {__version__}\n"
    refused = bare(agent, "--join", "nuc:x")
    assert (refused.returncode, "--join" in refused.stderr) == (2, True)


def test_it_is_not_searched_for_an_owner_s_handlers(agent: Path, tmp_path: Path) -> None:
    """That would start a process at each start of the agent."""
    look = "from retire_cluster.agent.execution.custom import Modules; print(Modules([]).may_be_any())"
    other = tmp_path / "other.zip"
    other.write_bytes(zipapp.pack({"a.py": b""}))

    def found(*archives: Path) -> str:
        path = f"import sys; sys.path[:0] = {[str(archive) for archive in archives]!r}; "
        return bare("-c", path + look).stdout.strip()

    assert found(agent) == "False"
    assert found(agent, other) == "True"


def test_an_old_python_is_told_so_in_one_sentence(tmp_path: Path) -> None:
    """What comes before the sentence has to be understood by it: nothing newer than Python 3.7 knows."""
    files = zipapp.files()
    for name in ("__main__.py", "join.py"):
        assert ast.parse(files[name], feature_version=(3, 7))
    main = tmp_path / "__main__.py"
    main.write_bytes(files["__main__.py"])
    older = f"import sys; sys.version_info = (3, 10, 9); exec(open({str(main)!r}).read())"
    done = bare("-c", older)

    assert done.returncode == 1
    assert done.stderr.startswith("The agent needs Python 3.11 or newer; this is ")
    assert len(done.stderr.splitlines()) == 1


# --- the line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
def test_the_line_is_one_line_that_terminals_and_cameras_take(tls: bool) -> None:
    line = join_line("192.168.100.100:18080", tls=tls, sha256="a" * 64, token=TOKEN)

    assert "\n" not in line
    assert line.isascii()
    assert len(line) < 1024  # what a terminal of macOS takes as one line
    assert int(segno.make(line, error="m", micro=False).version) <= 25
    assert line.count("'") == 2, "the code goes between single quotes"


@pytest.mark.parametrize("token", [TOKEN, 'it\'s $HOME; `x` "y"'])
def test_a_shell_hands_on_token_and_address_as_they_are(tmp_path: Path, token: str) -> None:
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$RETIRE_CLUSTER_JOIN_TOKEN" "$1" "$3" "$4" "$5"\n')
    python.chmod(0o755)
    line = join_line("[fe80::1%eth0]:8080", tls=True, sha256="a" * 64, token=token)

    said = subprocess.check_output(
        ["/bin/sh", "-c", f"{line} --rejoin"], env={"PATH": str(tmp_path)}, text=True
    )
    assert said.splitlines() == [token, "-Ic", "--join", "[fe80::1%eth0]:8080", "--rejoin"]


def test_a_device_that_is_known_needs_no_token_in_the_line() -> None:
    assert join_line("a:1", tls=True, sha256="a" * 64).startswith("python3 -Ic ")


def test_the_archive_reads_back_as_it_was_packed() -> None:
    files = {"b": b"2", "a": b"1"}
    with zipfile.ZipFile(io.BytesIO(zipapp.pack(files))) as archive:
        assert archive.namelist() == ["a", "b"]
        assert archive.read("b") == b"2"
