"""The node agent as one file: a zip archive that any Python from 3.11 on runs, made of what is installed here.

Equal sources give equal bytes on every machine: names in order, one date, nothing compiled, and nothing compressed,
since zlib's output differs from build to build.
"""

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import websockets

NAME = "agent.pyz"
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first moment a zip archive can name
_UNIX = 3
_MODE = 0o644 << 16
_PACKAGE = Path(__file__).parents[1]
_INSIDE = Path(__file__).parent / "inside"
# The agent, and what its command logs and reads variables with. tests/unit/test_zipapp.py finds what is missing.
_OURS = (
    "__init__.py",
    "agent",
    "protocol",
    "cli/__init__.py",
    "cli/worker.py",
    "credentials.py",
    "env.py",
    "logfiles.py",
    "logs.py",
)
# The protocol without I/O, which is all the agent uses: its clients and servers are three quarters of the package.
_OF_WEBSOCKETS = ("*.py", "extensions/*.py")


@dataclass(frozen=True, slots=True)
class Archive:
    """The file, and its SHA-256 in hexadecimal."""

    content: bytes
    sha256: str


@cache
def archive() -> Archive:
    """The agent of this installation; built at the first call, then kept in memory."""
    content = pack(files())
    return Archive(content, hashlib.sha256(content).hexdigest())


def files() -> dict[str, bytes]:
    """What is inside, by name."""
    found = {name: (_INSIDE / name).read_bytes() for name in ("__main__.py", "join.py")}
    found |= {f"retire_cluster/{file.relative_to(_PACKAGE)}": file.read_bytes() for file in _sources()}
    library = Path(websockets.__file__).parent
    for pattern in _OF_WEBSOCKETS:
        found |= {
            f"websockets/{file.relative_to(library)}": file.read_bytes() for file in library.glob(pattern)
        }
    return found | _licences()


def pack(files: Mapping[str, bytes]) -> bytes:
    """The files as an archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as target:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EARLIEST)
            entry.create_system, entry.external_attr = _UNIX, _MODE
            target.writestr(entry, files[name])
    return content.getvalue()


def _sources() -> Iterator[Path]:
    for name in _OURS:
        place = _PACKAGE / name
        yield from place.rglob("*.py") if place.is_dir() else [place]


def _licences() -> dict[str, bytes]:
    """The terms of both: whoever passes the file on passes them on."""
    theirs = [file for file in metadata.files("websockets") or () if file.name.startswith("LICENSE")]
    found = {f"websockets/{file.name}": file.read_binary() for file in theirs}
    # In a wheel ours stands within the package, in a checkout beside it.
    for ours in (_PACKAGE.parent / "LICENSE", _PACKAGE / "LICENSE"):
        if ours.is_file():
            found["LICENSE"] = ours.read_bytes()
    return found
