"""The project's settings with a private data directory: tests never touch the user's."""

import os
import tempfile

os.environ.setdefault("RETIRE_CLUSTER_DATA_DIR", tempfile.mkdtemp(prefix="retire-cluster-tests-"))

from retire_cluster.settings import *  # noqa: F403

WATCH_DATABASE = False
RATE_LIMITS = "off"  # the tests of limits set their own

if DATABASES["default"]["ENGINE"].endswith("sqlite3"):  # noqa: F405
    # A file, as in production: threads of a test share an in-memory database with locks of another kind.
    DATABASES["default"]["TEST"] = {"NAME": DATA_DIR / "tests.sqlite3"}  # noqa: F405
    # Nothing of a test database has to survive a power cut. The last word wins.
    DATABASES["default"]["OPTIONS"]["init_command"] += "PRAGMA synchronous=OFF;"  # noqa: F405

# Half a second for each user a test makes is for real passwords.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
