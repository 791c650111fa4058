"""The documentation as a site: it builds without a warning, is complete, and loads nothing from another host."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from docs_tools import commands, hooks, openapi
from tests.architecture.code import ROOT

LOADING = {
    "script",
    "link",
    "img",
    "iframe",
    "source",
    "video",
    "audio",
    "object",
    "embed",
    "image",
    "use",
    "track",
}
SOURCES = ("src", "href", "srcset", "data", "poster", "xlink:href")
FOREIGN = re.compile(r"^\s*(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
IN_STYLES = re.compile(r"""(?:url\(\s*['"]?|@import\s+['"])((?:https?:)?//[^'")\s]+)""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site")
    # Without a way out: whatever wanted the network would fail.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", directory],
        cwd=ROOT,
        env={**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return directory


class _Loads(HTMLParser):
    """Addresses a page makes the browser load by itself; links to click are none."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._in_style = tag == "style"
        self.found += IN_STYLES.findall(values.get("style", ""))
        if tag in LOADING and not (tag == "link" and values.get("rel") in ("canonical", "alternate")):
            self.found += [values[name] for name in SOURCES if FOREIGN.match(values.get(name, ""))]

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.found += IN_STYLES.findall(data)


def loads(html: str) -> list[str]:
    """Foreign addresses that a page loads."""
    parser = _Loads()
    parser.feed(html)
    return parser.found


def foreign(site: Path) -> Iterator[str]:
    for file in sorted(site.rglob("*")):
        if file.suffix == ".html":
            yield from (f"{file.name}: {address}" for address in loads(file.read_text()))
        elif file.suffix in (".css", ".svg"):
            yield from (f"{file.name}: {address}" for address in IN_STYLES.findall(file.read_text()))


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    assert len(list(site.rglob("*.html"))) > 40
    assert list(foreign(site)) == []


# What the theme's script may ask elsewhere, and the mark on a page without which it does not.
ELSEWHERE = {
    "https://unpkg.com/": 'class="mermaid"',  # and for browsers of before 2020, which have no ResizeObserver
    "https://api.github.com/": 'data-md-component="source"',
    "https://": 'data-md-component="source"',  # the rest of a GitLab's address
}


def test_the_themes_script_knows_no_other_hosts(site: Path) -> None:
    (script,) = site.glob("assets/javascripts/bundle.*.js")
    asked = re.findall(r"""[`"'](https?://[\w.-]*/?)""", script.read_text())
    assert asked
    assert set(asked) - {"http://www.w3.org/"} <= ELSEWHERE.keys()  # w3.org: names of XML


@pytest.mark.parametrize("mark", sorted(set(ELSEWHERE.values())))
def test_no_page_has_what_makes_the_themes_script_ask_them(site: Path, mark: str) -> None:
    assert [page.name for page in site.rglob("*.html") if mark in page.read_text()] == []


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/x.css">',
        '<link rel="preconnect" href="https://fonts.example">',
        '<img src="http://example.org/x.png">',
        "<style>@import 'https://example.org/x.css';</style>",
        '<p style="background: url(https://example.org/x.png)">',
    ],
)
def test_a_page_that_loads_from_elsewhere_is_found(html: str) -> None:
    assert loads(html)
    assert not loads('<a href="https://example.org">x</a><script src="../x.js"></script>')


def test_every_call_of_the_api_is_on_its_page(site: Path) -> None:
    page = (site / "reference" / "rest.html").read_text()
    document = yaml.safe_load((ROOT / "docs" / "reference" / "openapi.yaml").read_text())
    wanted = [f"{method} {path}" for method, path, _ in openapi.operations(document)]
    assert len(wanted) > 30
    assert [item for item in wanted if item not in page] == []


def test_a_calls_parameters_and_fields_are_in_its_section() -> None:
    text = openapi.page((ROOT / "docs" / "reference" / "openapi.yaml").read_text())
    section = text.partition("### POST /api/v1/tasks\n")[2].partition("\n### ")[0]
    for row in (
        "| `wait` | query | number, from 0, up to 60 |",
        "| `task_type`, required | string,",
        "| `requirements.timeout_seconds` | integer, from 1, up to 86400, default `300` |",
        "| `task.status` | `pending`, `queued`,",
    ):
        assert row in section


def test_every_flag_of_every_command_is_on_the_page_of_commands(site: Path) -> None:
    page = (site / "reference" / "command-line.html").read_text()
    parsers = list(commands.every_parser())
    titles = {parser.prog for parser in parsers}
    assert {"retire-cluster-status", "retire-cluster run", "retire-cluster-manage apikey create"} <= titles
    flags = [flag for parser in parsers for action in parser._actions for flag in action.option_strings]
    assert [flag for flag in flags if flag not in page] == []


def test_links_lead_to_where_files_are_on_the_site() -> None:
    text = (
        "[a](../../deploy/nginx/retire-cluster.conf) [b](backup.md#x) [c](https://example.org/x) [d](#e)"
        " [f](../../deploy/systemd)"
    )
    assert hooks.relinked(text, "howto/x.md") == (
        "[a](../project/deploy/nginx/retire-cluster.conf) [b](backup.md#x) [c](https://example.org/x) [d](#e)"
        " [f](../project/deploy/systemd/index.md)"
    )
    assert hooks.relinked("[a](docs/howto/backup.md)", "project/SECURITY.md") == "[a](../howto/backup.md)"
