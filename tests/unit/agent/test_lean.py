"""A module that is deferred is there for whoever uses it, and for nobody else."""

import subprocess
import sys

import pytest

_USES = [
    "import importlib.metadata; print(importlib.metadata.version('pip'))",
    "from importlib.metadata import version; print(version('pip'))",
    "import importlib.metadata as metadata; print(metadata.version('pip'))",
    "from importlib import metadata; print(metadata.version('pip'))",
    "import importlib.metadata._meta; print(importlib.metadata.version('pip'))",
]


def said_by(program: str) -> str:
    begin = "import sys; from retire_cluster.agent import lean; lean.defer('importlib', 'metadata')\n"
    done = subprocess.run(
        [sys.executable, "-c", begin + program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_import_statement_alone_does_not_load_it() -> None:
    assert said_by("import importlib.metadata; print('email' in sys.modules)") == "False"


@pytest.mark.parametrize("program", _USES)
def test_whoever_uses_it_has_the_real_one(program: str) -> None:
    real = "del sys.modules['importlib.metadata']; import importlib; del importlib.metadata"
    assert said_by(program) == said_by(f"{real}; {program}")


def test_what_is_loaded_already_stays() -> None:
    program = "import json.decoder as before; lean.defer('json', 'decoder')"
    assert said_by(f"{program}; print(sys.modules['json.decoder'] is before)") == "True"


def test_an_agent_s_start_does_not_load_it() -> None:
    assert said_by("import retire_cluster.agent.runtime; print('email' in sys.modules)") == "False"
