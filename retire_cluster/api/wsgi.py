"""The REST API for a WSGI server: `gunicorn retire_cluster.api.wsgi:app`. No WebSocket."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "retire_cluster.settings")

app = get_wsgi_application()
