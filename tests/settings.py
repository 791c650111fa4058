"""The project's settings with a private data directory: tests never touch the user's."""

import os
import tempfile

os.environ.setdefault("RETIRE_CLUSTER_DATA_DIR", tempfile.mkdtemp(prefix="retire-cluster-tests-"))

from retire_cluster.settings import *  # noqa: F403

WATCH_DATABASE = False
