"""Tests must be able to fail, and must wait for conditions instead of hoping."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.architecture.code import ROOT, Function, Source, dotted, sources

ASSERTING_CALLS = frozenset({"raises", "warns", "fail", "deprecated_call"})
SLEEPS = frozenset({"time.sleep", "asyncio.sleep", "sleep"})
# Files in which waiting is the subject. Each names why.
MAY_SLEEP = {"tests/unit/agent/test_workbench.py": "shows that nothing is sent meanwhile"}


def _calls(node: ast.AST) -> set[str]:
    return {
        call.func.attr if isinstance(call.func, ast.Attribute) else dotted(call.func)
        for call in ast.walk(node)
        if isinstance(call, ast.Call)
    }


def _asserts(node: ast.AST) -> bool:
    return any(isinstance(item, ast.Assert) for item in ast.walk(node)) or bool(
        _calls(node) & ASSERTING_CALLS
    )


def asserting_helpers(files: Iterable[Source]) -> set[str]:
    """Names of functions that assert, themselves or through others."""
    functions = [function for source in files for function in source.functions()]
    found = {function.name for function in functions if _asserts(function)}
    calls = [(function.name, _calls(function)) for function in functions]
    while more := {name for name, called in calls if name not in found and called & found}:
        found |= more
    return found


def cases_of(source: Source) -> list[Function]:
    return [function for function in source.functions() if function.name.startswith("test_")]


def toothless(source: Source, helpers: set[str]) -> list[str]:
    """Tests that cannot fail but by an unexpected exception."""
    return [
        f"{source.at(function)} {function.name} asserts nothing"
        for function in cases_of(source)
        if not _asserts(function) and not _calls(function) & helpers
    ]


def naps(source: Source) -> Iterator[str]:
    """Sleeps outside a loop that checks a condition again. Yielding (sleep(0)) is none."""
    guarded = {
        id(inner) for loop in ast.walk(source.tree) if isinstance(loop, ast.While) for inner in ast.walk(loop)
    }
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call) or dotted(node.func) not in SLEEPS or id(node) in guarded:
            continue
        if not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0):
            yield f"{source.at(node)} sleeps for luck"


def skips(source: Source) -> Iterator[str]:
    """Ways to leave a test out: a test that does not run proves nothing."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and node.attr in {"skip", "skipif", "xfail", "importorskip"}:
            yield f"{source.at(node)} uses {node.attr}"


def test_every_test_asserts_something() -> None:
    files = sources("tests")
    helpers = asserting_helpers(files)
    assert [line for source in files for line in toothless(source, helpers)] == []


def test_a_test_without_assertion_is_found() -> None:
    sample = Source.parse("sample.py", "def test_it():\n    run()\n")
    assert toothless(sample, {"check"})
    assert not toothless(Source.parse("sample.py", "def test_it():\n    check()\n"), {"check"})


def test_helpers_assert_through_others() -> None:
    text = "def a():\n    assert x\ndef b():\n    a()\ndef c():\n    b()\ndef d():\n    pass\n"
    assert asserting_helpers([Source.parse("sample.py", text)]) == {"a", "b", "c"}


def test_no_test_sleeps_for_luck() -> None:
    assert [
        line for source in sources("tests") if source.path not in MAY_SLEEP for line in naps(source)
    ] == []


@pytest.mark.parametrize("text", ["time.sleep(1)", "for _ in range(9):\n    time.sleep(0.1)", "sleep(0.5)"])
def test_a_nap_is_found(text: str) -> None:
    assert list(naps(Source.parse("sample.py", text)))
    assert not list(
        naps(Source.parse("sample.py", f"while not ready():\n    {text.splitlines()[-1].strip()}"))
    )


def test_no_test_is_left_out() -> None:
    assert [line for source in sources("tests") for line in skips(source)] == []


@pytest.mark.parametrize(
    "text", ["@pytest.mark.ski" + "p\ndef test_it(): ...", "pytest.importorski" + "p('x')"]
)
def test_a_skip_is_found(text: str) -> None:
    assert list(skips(Source.parse("sample.py", text)))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("assert True", pytest.ExitCode.OK),
        ("pytest.ski" + "p('later')", pytest.ExitCode.TESTS_FAILED),
        ("pytest.xfai" + "l('broken')", pytest.ExitCode.TESTS_FAILED),
    ],
)
def test_a_run_with_a_test_left_out_ends_red(tmp_path: Path, body: str, code: int) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_sample.py").write_text(f"import pytest\n\ndef test_it():\n    {body}\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    bare = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout
