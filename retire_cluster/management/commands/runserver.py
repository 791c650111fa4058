"""`manage.py runserver`: as Django's, on an ASGI server, so that `/ws` works too."""

import os
from typing import Any

import uvicorn
from django.conf import settings
from django.core.management.commands.runserver import Command as DjangoCommand
from django.utils import autoreload

from retire_cluster import __version__

BANNER = """\
Retire-Cluster {version}, settings {settings!r}
REST API, admin and first page at http://{host}:{port}/ (a development server; retire-cluster-api is the real one)
Tasks run once a gateway runs too: retire-cluster-main
Quit the server with CONTROL-C."""


class Command(DjangoCommand):
    """The checks, the migrations' warning and the reloader are Django's."""

    # Set by Django's `handle` from the argument.
    addr: str
    port: str
    _raw_ipv6: bool

    def inner_run(self, *args: Any, **options: Any) -> None:
        """Serve until interrupted."""
        autoreload.raise_last_exception()
        if not options["skip_checks"]:
            self.stdout.write("Performing system checks...\n\n")
            self.check(display_num_errors=True)
        self.check_migrations()
        host = f"[{self.addr}]" if self._raw_ipv6 else self.addr
        facts = {
            "version": __version__,
            "settings": settings.SETTINGS_MODULE,
            "host": host,
            "port": self.port,
        }
        self.stdout.write(BANNER.format(**facts))
        config = uvicorn.Config(
            "retire_cluster.asgi:application",
            host=self.addr,
            port=int(self.port),
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            ws_per_message_deflate=False,
        )
        server = uvicorn.Server(config)
        server.run()
        if not server.started:
            os._exit(
                1
            )  # uvicorn has logged why, such as a taken port; the reloader's thread cannot exit otherwise
