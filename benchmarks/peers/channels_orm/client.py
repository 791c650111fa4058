"""Starts the stock project: uvicorn for the WebSockets, gunicorn for the requests, one worker each."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import driver

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
STOP_S = 10.0
servers = {}


def prepare():
    """Make the tables."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    import django
    from django.db import connection

    django.setup()
    from board.models import Device, Note

    with connection.schema_editor() as editor:
        editor.create_model(Note)
        editor.create_model(Device)
    connection.close_pool()
    names = ("channels", "channels-redis", "Django", "uvicorn")
    return {"versions": ", ".join(f"{name} {version(name)}" for name in names)}


def start_sockets(port):
    """What serves the WebSockets, for the first time or again. No compression: ours has none."""
    address = ("--host", "127.0.0.1", "--port", str(port))
    quiet = ("--no-access-log", "--log-level", "warning", "--ws-per-message-deflate", "false")
    return _start("sockets", BIN / "uvicorn", "board.asgi:application", *address, *quiet)


def start_requests(port, threads):
    """What serves the requests."""
    flags = ("-w", "1", "--threads", str(threads), "-b", f"127.0.0.1:{port}", "--log-level", "warning")
    return _start("requests", BIN / "gunicorn", *flags, "board.wsgi:application")


def kill_sockets():
    """Without a word."""
    process = servers.pop("sockets")
    process.kill()
    process.wait()
    return {}


def stop():
    for process in servers.values():
        process.terminate()
    for process in servers.values():
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    servers.clear()
    return {}


def count(**wanted):
    """How many devices are like this."""
    from board.models import Device

    return {"count": Device.objects.filter(**wanted).count()}


def _start(name, *command):
    servers[name] = subprocess.Popen(
        [str(word) for word in command],
        cwd=HERE,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "settings"},
    )
    return {"pid": servers[name].pid}


driver.serve(
    {
        "prepare": prepare,
        "start_sockets": start_sockets,
        "start_requests": start_requests,
        "kill_sockets": kill_sockets,
        "stop": stop,
        "count": count,
    }
)
