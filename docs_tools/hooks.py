"""What mkdocs adds to docs/: pages made from the code, and the files outside of docs/ that pages link to."""

import os
import posixpath
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs_tools import commands, openapi

ROOT = Path(__file__).parents[1]
# Files of the project that are no part of docs/ appear below this directory of the site.
OUTSIDE = "project"
LINKED = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "LICENSE",
    "Dockerfile",
    "docker-compose.yml",
    "clients/javascript/README.md",
    "clients/javascript/src/index.d.ts",
)
_LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is not in docs/ itself."""
    with tempfile.TemporaryDirectory(prefix="retire-cluster-docs-") as directory:
        # The management commands need settings; nothing of a cluster on this machine may be touched.
        os.environ["RETIRE_CLUSTER_DATA_DIR"] = directory
        command_page = commands.page()
    files.append(File.generated(config, "reference/command-line.md", content=command_page))
    rest_page = openapi.page((ROOT / "docs" / "reference" / "openapi.yaml").read_text())
    files.append(File.generated(config, "reference/rest.md", content=rest_page))
    for path in outside():
        content = _listing(path) if (ROOT / path).is_dir() else (ROOT / path).read_text()
        files.append(File.generated(config, site_place(path), content=content))
    return files


def outside() -> Iterator[str]:
    """Paths from the project's root of the files and directories that the site takes in."""
    yield from LINKED
    for path in sorted((ROOT / "deploy").rglob("*")):
        yield path.relative_to(ROOT).as_posix()


def site_place(path: str) -> str:
    """Where a file of the project is on the site; a directory is a page that lists it."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"{OUTSIDE}/{path}/index.md" if (ROOT / path).is_dir() else f"{OUTSIDE}/{path}"


def _listing(path: str) -> str:
    names = [item.name for item in sorted((ROOT / path).iterdir()) if item.is_file()]
    return "\n".join([f"# {path}", "", *(f"* [{name}]({name})" for name in names)])


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """In the repository links are relative to it; on the site, to where the file is there."""
    return relinked(markdown, page.file.src_uri)


def relinked(markdown: str, place: str) -> str:
    """The text of the page at `place` (from the site's root) with its relative links as the site has them."""
    own = place.removeprefix(f"{OUTSIDE}/") if place.startswith(f"{OUTSIDE}/") else f"docs/{place}"

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(own), link[0]))
        return posixpath.relpath(site_place(target), posixpath.dirname(place) or ".")

    return _LINK.sub(moved, markdown)
