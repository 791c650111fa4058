"""Addresses of static files that change when the file does, so that browsers may keep it without asking again."""

from functools import cache
from hashlib import sha256
from pathlib import Path

from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import StaticFilesStorage


class VersionedStorage(StaticFilesStorage):
    """Files are served from where they are, so none has a hash in its name: its address has one in the query."""

    def url(self, name: str | None) -> str:
        version = _version(name or "")
        return f"{super().url(name)}?v={version}" if version else super().url(name)


@cache
def _version(name: str) -> str:
    """Of the file's content; empty where there is none."""
    found = finders.find(name)
    path = Path(found) if isinstance(found, str) else None
    return sha256(path.read_bytes()).hexdigest()[:12] if path and path.is_file() else ""
