"""The server for ASGI: `uvicorn --no-proxy-headers retire_cluster.asgi:application`."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "retire_cluster.settings")
django.setup(set_prefix=False)

from clusterconfig import services as config  # noqa: E402  needs the settings, as all below
from retire_cluster import ops  # noqa: E402
from retire_cluster.api import loading  # noqa: E402
from retire_cluster.events.tail import Tail  # noqa: E402
from retire_cluster.http_bridge import HttpBridge  # noqa: E402
from retire_cluster.live.consumer import LiveConsumer  # noqa: E402

HTTP_THREADS = 8  # SQLite has one writer and Python one lock: more threads only take turns

application = HttpBridge(HTTP_THREADS)
application.websockets["/ws"] = LiveConsumer.as_asgi(bridge=application, tail=Tail(config.stream))
ops.serves_websocket = True
loading.settle()
