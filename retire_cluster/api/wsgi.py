"""The REST API for a WSGI server: `gunicorn retire_cluster.api.wsgi:app`. No WebSocket."""

import os
from collections.abc import Iterable
from typing import Any

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "retire_cluster.settings")

_django = get_wsgi_application()

from retire_cluster import stopping  # noqa: E402  needs the settings
from retire_cluster.api import bodies  # noqa: E402

stopping.release_waiters_on_signal()  # gunicorn's workers import this once they handle signals


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Django behind a look at what it would stumble over before it can answer an error."""
    environ["CONTENT_TYPE"] = bodies.readable_type(environ.get("CONTENT_TYPE", ""))
    return _django(environ, start_response)
