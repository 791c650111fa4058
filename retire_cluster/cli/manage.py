"""`retire-cluster-manage`: Django's commands plus the project's."""

import os
import sys

from retire_cluster import __version__
from retire_cluster.cli import running

PROGRAM = "retire-cluster-manage"


def main() -> int:
    """Run a management command. A configuration mistake is one line and exit code 2."""
    if sys.argv[1:] == ["--version"]:  # Django would tell its own
        print(f"{PROGRAM} {__version__}")
        return 0
    if not running.has_server():
        return running.fail(PROGRAM, running.NO_SERVER, 2)
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "retire_cluster.settings")
    try:
        execute_from_command_line([PROGRAM, *sys.argv[1:]])
    except ImproperlyConfigured as error:
        return running.fail(PROGRAM, error, 2)
    return 0
