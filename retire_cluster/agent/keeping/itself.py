"""How this very program is started again: the words of its command line, wherever it runs from."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def own_command(
    main: object,
    argv0: str = sys.argv[0],
    executable: str = sys.executable,
    environ: Mapping[str, str] = os.environ,
) -> list[str]:
    """The command without its flags, to be run from any directory; `main` is the module `__main__`.

    That is an archive (`python3 agent.pyz`), a module (`python -m`) or an installed script. A package that Python
    finds only by its working directory or by PYTHONPATH is named to it again.
    """
    archive = getattr(getattr(main, "__loader__", None), "archive", None)
    if archive is not None:
        return [executable, os.path.abspath(archive)]
    spec = getattr(main, "__spec__", None)
    if spec is None:
        return [os.path.abspath(argv0)]
    root = str(Path(__file__).resolve().parents[3])
    named = {os.getcwd(), *environ.get("PYTHONPATH", "").split(os.pathsep)}
    return [*(["/usr/bin/env", f"PYTHONPATH={root}"] if root in named else []), executable, "-m", spec.name]
