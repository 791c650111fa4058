"""Runs the agent out of the archive. An older Python has to understand this file, to say that it is too old."""

import sys

if sys.version_info[:2] < (3, 11):  # noqa: UP036 this is where an older one is told
    sys.exit(
        "The agent needs Python 3.11 or newer; this is "
        + sys.version.split()[0]
        + ": install a newer python3 on this device."
    )

from retire_cluster.cli.worker import main

sys.exit(main())
