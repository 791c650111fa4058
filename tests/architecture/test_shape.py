"""Shape of the code: small functions, no star import, no swallowed error, nothing of the author's machine."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.code import PRODUCT, ROOT, Source, sources

LONGEST_FUNCTION = 60  # lines; nearly all are under 30
TEXT = frozenset({".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".html", ".css", ".js", ".json", ""})
PLACES = (*PRODUCT, "tests", "docs", "docs_tools", "templates", ".ci")
# A home directory or a checkout's place says that something was pasted from one machine.
MACHINE_PATH = re.compile(r"(?<![\w.:/-])/(?:home/\w+|Users/\w+|root|work)/\w")


def long_functions(source: Source) -> list[str]:
    return [
        f"{source.at(function)} {function.name} has {length} lines"
        for function in source.functions()
        if (length := (function.end_lineno or 0) - function.lineno + 1) > LONGEST_FUNCTION
    ]


def careless(source: Source) -> Iterator[str]:
    """Star imports, bare excepts, and exceptions of every kind dropped without a word."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            yield f"{source.at(node)} imports *"
        elif isinstance(node, ast.ExceptHandler):
            broad = isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}
            if node.type is None or (broad and all(isinstance(item, ast.Pass) for item in node.body)):
                yield f"{source.at(node)} drops every exception"


def machine_paths(path: str, text: str) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()}"
        for number, line in enumerate(text.splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]


def text_files() -> Iterator[Path]:
    tops = [file for file in ROOT.iterdir() if file.is_file()]
    below = [file for place in PLACES for file in (ROOT / place).rglob("*") if file.is_file()]
    for file in sorted([*tops, *below]):
        if file.suffix in TEXT and "__pycache__" not in file.parts and not file.name.startswith(".coverage"):
            yield file


def test_no_function_is_long() -> None:
    assert [line for source in sources(*PRODUCT, "tests") for line in long_functions(source)] == []


def test_a_long_function_is_found() -> None:
    body = "    x = 1\n" * LONGEST_FUNCTION
    assert long_functions(Source.parse("sample.py", f"def f():\n{body}"))
    assert not long_functions(Source.parse("sample.py", "def f():\n    x = 1\n"))


def test_no_star_import_and_no_swallowed_error() -> None:
    allowed = "tests/settings.py"  # Django's way of deriving settings
    assert [
        line for source in sources(*PRODUCT, "tests") if source.path != allowed for line in careless(source)
    ] == []


@pytest.mark.parametrize(
    "text",
    [
        "from os import *",
        "try:\n    x()\nexcept:\n    raise",
        "try:\n    x()\nexcept Exception:\n    pass",
        "try:\n    x()\nexcept BaseException as error:\n    pass",
    ],
)
def test_carelessness_is_found(text: str) -> None:
    assert list(careless(Source.parse("sample.py", text)))


def beyond_version(source: Source) -> list[str]:
    """Statements of a package's `__init__` besides its docstring and its version."""
    return [
        f"{source.at(node)} {ast.unparse(node)[:60]}"
        for node in source.tree.body[1:]
        if not (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__")
    ]


def test_the_package_holds_its_version_and_nothing_else() -> None:
    (package,) = sources("retire_cluster/__init__.py")
    assert ast.get_docstring(package.tree)
    assert len(package.tree.body) == 2
    assert beyond_version(package) == []


def test_more_than_the_version_is_found() -> None:
    assert beyond_version(
        Source.parse("sample.py", '"""Docstring."""\nfrom retire_cluster.celery import app\n')
    )


def test_nothing_names_a_place_of_one_machine() -> None:
    found = [
        line for file in text_files() for line in machine_paths(str(file.relative_to(ROOT)), file.read_text())
    ]
    assert found == []


def test_a_place_of_one_machine_is_found() -> None:
    for home in ("/ho" + "me/ada/x", "/ro" + "ot/x", "/Us" + "ers/ada/x", "/wo" + "rk/main"):
        assert machine_paths("sample.md", f"see {home}")
    assert not machine_paths(
        "sample.md", "see https://example.org/work/x and ~/.retire-cluster and proc/root/x"
    )
