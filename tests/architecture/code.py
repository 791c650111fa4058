"""What architecture tests read: the project's Python files as syntax trees."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = ("retire_cluster", "devices", "tasks", "clusterconfig")
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One file: its path from the project's root, and its tree."""

    path: str
    tree: ast.Module

    @classmethod
    def parse(cls, path: str, text: str) -> "Source":
        return cls(path, ast.parse(text))

    def functions(self) -> Iterator[Function]:
        for node in ast.walk(self.tree):
            if isinstance(node, Function):
                yield node

    def at(self, node: ast.AST) -> str:
        """Where a finding is, for a message."""
        return f"{self.path}:{getattr(node, 'lineno', 0)}"


def sources(*places: str) -> list[Source]:
    """The Python files at or below the places, without migrations (generated)."""
    files: list[Path] = []
    for place in places:
        target = ROOT / place
        assert target.exists(), f"{place} does not exist any more; adapt the test that names it"
        files += sorted(target.rglob("*.py")) if target.is_dir() else [target]
    wanted = [file for file in files if "migrations" not in file.parts]
    return [_parsed(file) for file in wanted]


@cache
def _parsed(file: Path) -> Source:
    """Nearly every rule reads nearly every file."""
    return Source.parse(str(file.relative_to(ROOT)), file.read_text())


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a name or attribute chain, as far as it is one."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""
