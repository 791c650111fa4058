"""Where a torture may put everything, PostgreSQL included."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short name that every account may enter; pytest's own are for one account alone."""
    found = Path(tempfile.mkdtemp(prefix="rc-"))
    found.chmod(0o755)
    yield found
    shutil.rmtree(found, ignore_errors=True)
