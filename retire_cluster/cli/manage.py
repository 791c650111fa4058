"""`retire-cluster-manage`: Django's commands plus the project's."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line


def main() -> int:
    """Run a management command. A configuration mistake is one line and exit code 2."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "retire_cluster.settings")
    try:
        execute_from_command_line(["retire-cluster-manage", *sys.argv[1:]])
    except ImproperlyConfigured as error:
        print(f"retire-cluster-manage: {error}", file=sys.stderr)
        return 2
    return 0
