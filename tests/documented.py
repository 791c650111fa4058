"""Reading the documentation as tests do: fenced blocks, and shown output compared with what really came."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from tests.architecture.code import ROOT

DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(DOCS.rglob("*.md")))
LEFT_OUT = "…"
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page. `line` is that of its fence."""

    page: Path
    line: int
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@cache
def blocks(page: Path) -> list[Block]:
    """A page's fenced blocks in their order."""
    return list(found_in(page, page.read_text()))


def found_in(page: Path, text: str) -> Iterator[Block]:
    for fence in _FENCE.finditer(text):
        language, _, rest = fence["info"].strip().partition(" ")
        title = re.search(r'title="([^"]*)"', rest)
        inner = re.sub(rf"^{fence['indent']}", "", fence["text"], flags=re.MULTILINE)
        line = text.count("\n", 0, fence.start()) + 1
        yield Block(page, line, language, title[1] if title else "", inner)


def every_block(*languages: str) -> list[Block]:
    """The blocks in these languages, of all pages."""
    return [block for page in PAGES for block in blocks(page) if block.language in languages]


def home_assistant_yaml(text: str, secrets: Mapping[str, str] = MappingProxyType({})) -> Any:
    """YAML as Home Assistant reads it: `!secret NAME` is the value of that name in its secrets.yaml."""

    class Loader(yaml.SafeLoader):
        pass

    def secret(_: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
        return secrets.get(str(node.value), "")

    Loader.add_constructor("!secret", secret)
    return yaml.load(text, Loader)


def fits(shown: Any, came: Any) -> bool:
    """Whether an answer is as a page shows it: the members shown are there, and say the same.

    Numbers only have to be numbers, and "…" stands for any text. A list has as many entries as are shown, at least;
    the order does not count.
    """
    if isinstance(shown, dict):
        return isinstance(came, dict) and all(key in came and fits(shown[key], came[key]) for key in shown)
    if isinstance(shown, list):
        return isinstance(came, list) and _all_there(shown, came)
    if isinstance(shown, str):
        return isinstance(came, str) and re.fullmatch(_pattern(shown), came) is not None
    if isinstance(shown, (int, float)) and not isinstance(shown, bool):
        return isinstance(came, (int, float)) and not isinstance(came, bool)
    return bool(shown == came) and type(shown) is type(came)


def _all_there(shown: list[Any], came: list[Any]) -> bool:
    left = list(came)
    for item in shown:
        match = next((other for other in left if fits(item, other)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def says(shown: str, said: str) -> bool:
    """Whether the lines shown were said in this order. "…" stands for any text, alone on its line for any lines."""
    lines = [
        "" if line.strip() == LEFT_OUT else _pattern(line.rstrip()) for line in shown.splitlines() if line
    ]
    return re.search("(?:.*\n)*?".join(f"{line} *\n" if line else "" for line in lines), said) is not None


def _pattern(text: str) -> str:
    return ".*".join(map(re.escape, text.split(LEFT_OUT)))
