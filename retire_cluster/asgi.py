"""The server for ASGI: `uvicorn retire_cluster.asgi:application`."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "retire_cluster.settings")
django.setup(set_prefix=False)

from retire_cluster.http_bridge import HttpBridge  # noqa: E402  needs the settings

HTTP_THREADS = 8  # SQLite has one writer and Python one lock: more threads only take turns

application = HttpBridge(HTTP_THREADS)
