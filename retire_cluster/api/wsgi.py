"""The REST API for a WSGI server: `gunicorn retire_cluster.api.wsgi:app`. No WebSocket."""

import os
from collections.abc import Iterable
from typing import Any

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "retire_cluster.settings")

_django = get_wsgi_application()

from retire_cluster import stopping  # noqa: E402  needs the settings
from retire_cluster.api import bodies, loading  # noqa: E402

stopping.release_waiters_on_signal()  # gunicorn's workers import this once they handle signals
loading.settle()


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Django behind a look at what it would stumble over before it can answer an error."""
    _hear_out(environ)
    environ["CONTENT_TYPE"] = bodies.readable_type(environ.get("CONTENT_TYPE", ""))
    return _django(environ, start_response)


def _hear_out(environ: dict[str, Any]) -> None:
    """Read what is too large to its end, so that the refusal arrives. Django goes by the Content-Length alone."""
    left = bodies.declared(environ.get("CONTENT_LENGTH", ""))
    if left <= bodies.limit(environ.get("PATH_INFO", "")):
        return
    if not bodies.is_heard_out(left, environ.get("HTTP_EXPECT", "")):
        return
    while left > 0 and (block := environ["wsgi.input"].read(min(left, 65_536))):
        left -= len(block)
