"""Offers an owner who starts an agent by hand to keep it running."""

import contextlib
import os
import sys
from typing import TextIO

from retire_cluster.agent.keeping.places import Place

_ASKED = "asked-to-keep"


def is_kept(place: Place) -> bool:
    """Whether something seems to start this agent again: a keeper, or whatever runs it now."""
    if "INVOCATION_ID" in place.host.environ or os.getpid() == 1:
        return True  # of systemd, or a container's only process
    return any(file.exists() for file in (place.script, place.unit, place.boot_script))


def ask(place: Place, terminal: TextIO) -> bool:
    """Whether the owner at the terminal wants the agent kept. Asked once, then never again."""
    mark = place.script.with_name(_ASKED)
    if mark.exists():
        return False
    print("Keep the agent running when this terminal is closed, and start it at boot? [y/N]", file=sys.stderr)
    wanted = terminal.readline().strip().lower() in ("y", "yes")
    with contextlib.suppress(OSError):  # then it is asked again
        mark.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        mark.touch()
    return wanted


def hint(place: Place, own: list[str]) -> str:
    """What to do to have it kept; `own` are the words that start this program."""
    import shlex

    command = shlex.join([*own, "keep", "--data-dir", str(place.data_dir)])
    return f"nothing starts this agent again after a reboot; to have that: {command}"
